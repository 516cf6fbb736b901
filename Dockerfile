# syntax=docker/dockerfile:1

# A stripped program does not say what is in it: the bill of materials is made from Cargo.lock, too.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# Natively on each architecture: emulation is slow, and a cross compiler could not run what it made.
FROM rust:1.95-slim-bookworm AS source
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /source
COPY . .

FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,sharing=locked \
    .image/build /image

FROM source AS build-dev-gateway
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,sharing=locked \
    .image/build /image gateway

# docker build --target dev-gateway: what stands in for OpenFaaS in compose.yaml.
FROM scratch AS dev-gateway
COPY --from=build-dev-gateway /image /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/dev_gateway"]

# Nothing but the program, its names and the certificate authorities; tests/image.sh runs what is copied here.
FROM scratch AS queue-worker
LABEL org.opencontainers.image.title="queue-worker" \
    org.opencontainers.image.description="Makes asynchronous function calls reliable: from NATS JetStream to a gateway, with retries and dead letters" \
    org.opencontainers.image.licenses="MIT"
COPY --from=build /image /
ENV PATH=/usr/bin
# A number, so that Kubernetes can tell that it is not root. Any other will do.
USER 65532:65532
EXPOSE 8081
ENTRYPOINT ["/usr/bin/queue-worker"]
