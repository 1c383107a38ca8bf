"""The composition root: joins the packages to one running gateway."""
