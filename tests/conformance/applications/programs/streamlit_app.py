"""A Streamlit page; `streamlit run` starts it."""

import streamlit

streamlit.title("The page of the tests")
