"""nginx, one worker: buffering to disk off in both directions, since the others have none."""

from __future__ import annotations

from bench import traffic
from bench.peers.peer import Command, Site, program

_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19900; }}
http {{
  access_log {log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 600;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  proxy_read_timeout 600;
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header Connection $connection_upgrade;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Request-ID $request_id;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream web {{ server 127.0.0.1:{web}; keepalive 4096; keepalive_requests 1000000000; }}
  upstream live {{ server 127.0.0.1:{live}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://web; }}
    location {prefix} {{ proxy_pass http://live; proxy_buffering off; }}
{routes}
  }}
}}
"""


def prepare(site: Site, *, log: str = "off") -> Command:
    """One configuration file."""
    return Command(command(site, configuration(site, log)))


def prepare_logging(site: Site) -> Command:
    """With its access log written to a file."""
    return prepare(site, log=f"{site.folder}/access.log")


def configuration(site: Site, log: str) -> str:
    """The text of the file."""
    routes = "\n".join(f"    location {prefix}/ {{ proxy_pass http://web; }}" for prefix in site.prefixes)
    return _CONFIG.format(
        port=site.port,
        web=site.web,
        live=site.live,
        folder=site.folder,
        prefix=traffic.LIVE,
        log=log,
        routes=routes,
        user=user(),
    )


def command(site: Site, text: str) -> list[str]:
    """How nginx is started with a configuration of its own in `site.folder`."""
    file = site.write("nginx.conf", text)
    return [program("nginx"), "-p", str(site.folder), "-e", str(site.folder / "error.log"), "-c", str(file)]


def user() -> str:
    """As root, nginx would serve as nobody, who may not read a temporary folder."""
    import os

    return "user root;" if os.geteuid() == 0 else ""
