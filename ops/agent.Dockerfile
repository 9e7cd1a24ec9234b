# The device agent, for machines that run containers. Build from the project's root:
#   docker build -f ops/agent.Dockerfile -t edgefleet-agent .
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY controller controller
COPY device_agent device_agent
COPY migrations migrations
# Without extras: what only the controller needs stays out of the image.
RUN uv venv /opt/edgefleet \
 && uv pip install --python /opt/edgefleet/bin/python --no-cache -c requirements.lock .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 edgefleet \
 && install -d -o edgefleet -g edgefleet /var/lib/edgefleet-agent
COPY --from=build /opt/edgefleet /opt/edgefleet
ENV PATH=/opt/edgefleet/bin:$PATH PYTHONUNBUFFERED=1
USER edgefleet
WORKDIR /var/lib/edgefleet-agent
VOLUME /var/lib/edgefleet-agent
CMD ["edgefleet-agent", "run"]
