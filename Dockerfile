# A machine that scrapes: the package without notebooks, in an image that scheduler and volume are brought to.
#   docker build -t scrapeopt .                      --build-arg EXTRAS=scrape  leaves the maps out
#   docker run --rm -v prices:/workspace scrapeopt status
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ARG EXTRAS=maps,scrape,postgres
WORKDIR /source
COPY setup.py settings.ini README.md LICENSE ./
COPY scrapeopt scrapeopt
RUN python3 -m venv /srv/scrapeopt
RUN /srv/scrapeopt/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM ${PYTHON}
RUN useradd --uid 1000 --create-home scrapeopt && install -d -o scrapeopt -g scrapeopt /workspace
COPY --from=build /srv/scrapeopt /srv/scrapeopt
COPY deploy/every /usr/local/bin/every
ENV PATH=/srv/scrapeopt/bin:$PATH SCRAPEOPT_WORKSPACE=/workspace PYTHONUNBUFFERED=1
USER scrapeopt
WORKDIR /workspace
VOLUME /workspace
# Docker knows 0 and 1 only; status ends with 2 while something needs a person.
HEALTHCHECK --interval=10m --timeout=1m --start-period=1h CMD scrapeopt status > /dev/null 2>&1 || exit 1
# scrapeopt hears SIGTERM as process 1, too, and ends its scrapers: no init is needed in front of it.
ENTRYPOINT ["scrapeopt"]
CMD ["status"]
