.PHONY: help bars bench chart-install-test chart-test compat-test demo deny fire fuzz image image-test migrating-test soak test

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Watch a call fail, back off, recover, and another end as a dead letter (about a minute; then it stays up)
	@examples/demo.sh

demo-http: ## Watch the same without OpenFaaS: from a message of JetStream to a retried POST and a dead letter (half a minute)
	@examples/demo-http.sh

# The servers are found before cargo starts, so that their absence is one clear line and not a failing test. What speaks to a
# server runs on the newest, which fires message schedules itself, and again on one that is too old for them. What is tested is
# what images are made of: a worker with all features; that it builds without them is checked beside it.
test: ## Everything that must hold before a change is taken: format, lints, documentation, tests
	for script in tests/debian.sh tests/nats-server.sh tests/worker.sh tests/prometheus.sh tests/image.sh tests/deny.sh fuzz/run.sh examples/demo.sh examples/demo-http.sh examples/parts.sh chart/test.sh chart/cluster.sh .ci/run .image/build .image/enter; do \
		bash -n $$script || exit 1; done
	cargo fmt --check
	cargo clippy -- -D warnings
	cargo clippy --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features
	tests/deny.sh
	server="$$(tests/nats-server.sh)" && old="$$(tests/nats-server.sh 2.9)" && prometheus="$$(tests/prometheus.sh)" && \
		export NATS_SERVER_OLD="$$old" PROMETHEUS="$$prometheus" RUST_TEST_THREADS=$(TEST_THREADS) && \
		NATS_SERVER="$$server" cargo test --all-features && NATS_SERVER="$$old" cargo test --all-features --test it --test bars
	$(MAKE) migrating-test STARTS=3

# The worker is the one that the tests were built with.
migrating-test: STARTS ?= 20
migrating-test: ## Start the services of docs/migrating.md as faasd would, STARTS times (20; some two minutes)
	cargo build --all-features
	NATS_SERVER="$$(tests/nats-server.sh)" WORKER="$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/queue-worker" \
		tests/migrating.py $(STARTS)

# Most tests wait most of the time: six at once keep two cores busy.
TEST_THREADS ?= 6

# The worker is built for release, the tests are not: they measure the worker, and have the machine to themselves one by one.
MEASURE = cargo build --release --all-features && server="$$(tests/nats-server.sh)" && NATS_SERVER="$$server" \
	WORKER_BIN="$$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/queue-worker"

bars: ## Measure the worker against its bars, in full size (about a quarter of an hour, on a quiet machine)
	$(MEASURE) BARS=full cargo test --all-features --test bars -- --skip fire:: --nocapture --test-threads=1

# The worker is the one that is shipped: the one that cargo builds for a bench has crates with what tests need in them.
bench: ## Measure the worker beside a bare loop (some 45 minutes, on a quiet machine); BENCH="latency --rounds 3" for a part of it
	$(MEASURE) cargo bench --all-features --bench bench -- $(BENCH)

# FAULT=workers takes the scenarios of one file; without it all of them make the table of docs/RELIABILITY.md.
fire: ## Do to real parts what messages must survive, in full size (about half an hour); FAULT=disk, cluster, … for a part of it
	$(MEASURE) BARS=full cargo test --all-features --test bars fire::$(FAULT) -- --skip soak:: --nocapture --test-threads=1

soak: MINUTES ?= 30
soak: ## All faults in turn under full load for MINUTES (30), in an order that SEED repeats
	$(MEASURE) SOAK_MINUTES=$(MINUTES) $(if $(SEED),SOAK_SEED=$(SEED)) cargo test --all-features --test bars fire::soak -- --nocapture --test-threads=1

# The last release before this commit is the one to be tried; until there is one, a commit that wrote the format of today.
compat-test: BEFORE ?= $(or $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null),b0630c4)
compat-test: ## Serve one queue with this worker and that of the commit BEFORE (the last release), each killed in turn (twelve minutes)
	server="$$(tests/nats-server.sh)" && old="$$(tests/nats-server.sh 2.9)" && OLD_WORKER_BIN="$$(tests/worker.sh $(BEFORE))" && \
		export OLD_WORKER_BIN BARS=full && for nats in "$$server" "$$old"; do NATS_SERVER="$$nats" \
		cargo test --all-features --test bars fire::versions -- --nocapture --test-threads=1 || exit 1; done

# The advisories' database is fetched for it, which `make test` does without.
deny: ## Check what is built in: advisories, licences, banned and doubled crates
	tests/deny.sh advisories bans licenses sources

# The corpus itself, and inputs near it, are in `make test`, too.
fuzz: MINUTES ?= 10
fuzz: ## Fuzz all that reads what comes from outside, MINUTES (10) for each target, two at a time
	fuzz/run.sh $(MINUTES)

# Apart from `make test`: it needs Go and Python, and a network the first time.
chart-test: ## Everything that must hold for the chart (half a minute; some more the first time, when it builds its tools)
	chart/test.sh

chart-install-test: ## Install the chart in a real Kubernetes without nodes (needs Go and Python; a quarter of an hour the first time)
	chart/cluster.sh

image: ## Build the image, with Docker
	docker build --tag queue-worker --label org.opencontainers.image.revision="$$(git describe --always --dirty)" .

image-test: ## Test what is in the image, without Docker: the worker in its own root file system (needs root's rights)
	tests/image.sh
