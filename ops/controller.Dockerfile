# The controller: one image, whose role is the command (server, worker, signer). Build from the project's root:
#   docker build -f ops/controller.Dockerfile -t edgefleet-controller .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY controller controller
COPY device_agent device_agent
COPY migrations migrations
# The lock file as constraints: its versions and hashes for what the extras ask for, and nothing of `dev`.
RUN uv venv /opt/edgefleet \
 && uv pip install --python /opt/edgefleet/bin/python --no-cache -c requirements.lock '.[controller,postgres,redis]'

FROM python:3.11-slim-bookworm
# The signer has an account of its own, so that the controller cannot read its keys; they meet at a socket.
RUN groupadd --system --gid 10001 edgefleet \
 && useradd --system --uid 10001 --gid 10001 edgefleet \
 && useradd --system --uid 10002 --gid 10001 edgefleet-signer \
 && install -d -o edgefleet -g edgefleet /var/lib/edgefleet \
 && install -d -o edgefleet-signer -g edgefleet -m 0700 /var/lib/edgefleet-signer \
 && install -d -o edgefleet-signer -g edgefleet -m 0750 /run/edgefleet
COPY --from=build /opt/edgefleet /opt/edgefleet
ENV PATH=/opt/edgefleet/bin:$PATH PYTHONUNBUFFERED=1
USER edgefleet
WORKDIR /var/lib/edgefleet
VOLUME /var/lib/edgefleet
EXPOSE 8600
CMD ["edgefleet", "server", "start", "--host", "0.0.0.0"]
