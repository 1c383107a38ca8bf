"""The upstream of every proxy: Debian's nginx, and beside it a small server for what nginx has no module for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import process, traffic
from bench.peers import nginx
from bench.peers.peer import ROOT, Site

# A POST would be answered before its body is read; the mirror, which goes nowhere, makes nginx read it first.
_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19900; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 600;
  open_file_cache max=100;
  default_type application/json;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder}/www;
    location = {post} {{ mirror /mirror; mirror_request_body off; error_page 405 =200 {small}; }}
    location = /mirror {{ internal; return 204; }}
    location = {varied} {{ try_files {small} =404; }}
    location /route- {{ try_files {small} =404; }}
  }}
}}
"""


@contextmanager
def running(folder: Path, core: int, ports: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Both servers, and the ports at which they answer."""
    web, live = next(ports), next(ports)
    site = Site(web, 0, 0, folder)
    www = folder / "www" / "api"
    www.mkdir(parents=True)
    (www / "k1").write_bytes(b"x" * traffic.BODY_SIZE)
    # Its size is all that counts, but a sparse file would be read faster than a real one.
    (www / "big").write_bytes(b"x" * traffic.BIG_SIZE)
    (www / "post").touch()
    text = _CONFIG.format(
        port=web, folder=folder, post=traffic.POST, varied=traffic.VARIED, small=traffic.SMALL, user=nginx.user()
    )
    started: list[process.Process] = []
    try:
        started.append(process.start(nginx.command(site, text), core=core, folder=folder, name="upstream"))
        argv = [sys.executable, "-m", "bench.programs.live", str(live)]
        env = {"PYTHONPATH": str(ROOT)}
        started.append(process.start(argv, core=core, folder=folder, name="live", env=env))
        process.first_answer(started[0], web, traffic.head("GET", traffic.SMALL))
        process.first_answer(started[1], live, traffic.head("GET", "/health"))
        yield web, live
    finally:
        for one in started:
            one.stop()
