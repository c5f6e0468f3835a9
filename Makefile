# isthmus. "make help" lists the targets.

GO            ?= go
GO_NEEDED     := 1.26
FUZZTIME      ?= 30s
BENCHTIME     ?= 1s
BENCHFLAGS    ?=
TESTFLAGS     ?=
RELEASE_ARCHS ?= amd64 arm64

MODULE      := aarch64.com/isthmus
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
DEPGUARD    := github.com/OpenPeeDeeP/depguard/v2/cmd/depguard@v2.3.0

# The tag, where there is one; without git the binary says "devel".
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null)

# What a Debian machine needs to build, test and run the demo, besides Go. With
# systemd, openssh-server, unbound, nsd, nginx and etcd-server start a service each, which the tests don't need.
DEB_PACKAGES     := ca-certificates git make gcc libc6-dev iproute2 iperf3 curl openssl nginx unbound \
                    openssh-client openssh-server putty-tools dropbear-bin python3-paramiko rsync ssh-audit \
                    etcd-server apache2-bin chromium pebble dehydrated nsd systemd
# Packages of perf whose tests run the program and others, and compute nothing.
OUTSIDE          := emulator|endtoend|http3|proxiestab|routesync|visitors
# What changing the BPF programs (xsk/steer.c, xsk/tun/fastpath/fast.c) needs on top.
DEB_GENERATE     := clang llvm libbpf-dev linux-libc-dev
# What emulated machines need on top ("make test-arm64").
DEB_ARM64        := qemu-user-static qemu-system-arm qemu-system-x86 ipxe-qemu seabios cpio kmod git iproute2 debian-archive-keyring

.DEFAULT_GOAL := help
.PHONY: help deps deps-generate build release demo test lint generate fmt bench-translate bench-xsk bench-kernel-path bench-jump bench-proxy bench-sync fuzz arm64 deps-arm64 test-arm64 check-go print-depguard

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that build, test and demo need
	@./.ci/install-packages $(DEB_PACKAGES)

deps-generate: ## install the Debian packages that "make generate" needs on top
	@./.ci/install-packages $(DEB_GENERATE)

deps-arm64: ## install the Debian packages that "make test-arm64" needs on top
	@./.ci/install-packages $(DEB_ARM64)

build: check-go ## build bin/isthmus, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X $(MODULE)/cmd/internal/version.tag=$(VERSION)' -o bin/isthmus ./cmd/isthmus

# The least of each architecture that isthmus runs on: docs/decisions/016-release-builds.md.
release: check-go ## build static, reproducible binaries for amd64 and arm64 in bin/release
	@rm -rf bin/release
	@for arch in $(RELEASE_ARCHS); do \
		GOOS=linux GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=true \
			-ldflags '-s -w -X $(MODULE)/cmd/internal/version.tag=$(VERSION)' -o bin/release/isthmus-linux-$$arch ./cmd/isthmus || exit 1; \
	done
	@cd bin/release && sha256sum isthmus-linux-* >SHA256SUMS && cat SHA256SUMS

demo: build ## show it at work in network namespaces (as root)
	@./.ci/as-root ./bin/isthmus demo

# Two packages at a time, however many processors there are: the integration tests share
# the machine, and much of their time they wait. The race detector sees one process, so
# packages that look at isthmus from outside are not run a second time.
test: check-go ## run all tests; as root the integration tests, too
	@[ "$$(id -u)" = 0 ] || echo "make test: not root, so the integration tests will be skipped"
	$(GO) test -p 2 -timeout 10m $(TESTFLAGS) ./...
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null; then \
		echo "the same with the race detector:"; \
		$(GO) test -race -p 2 -timeout 15m $(TESTFLAGS) $$($(GO) list ./... | grep -vE '/perf/($(OUTSIDE))$$'); \
	else \
		echo "make test: no C compiler, so no second run with the race detector (make deps installs one)"; \
	fi

# MACHINES=debian13,nic-igb: those alone. FULL=1: the tests of all packages on each.
test-arm64: check-go ## run the tests on arm64, other kernels and page sizes, and network cards, emulated
	GO="$(GO)" $(GO) run ./perf/emulator/run -v $(if $(MACHINES),-only $(MACHINES)) $(if $(FULL),-full) $(if $(PACKAGES),-packages $(PACKAGES))
	$(if $(MACHINES)$(PACKAGES),,GO="$(GO)" $(GO) test -count 1 -tags faults -run TestFaultsAreSeen ./perf/emulator)

lint: check-go ## check formatting, go vet, staticcheck and the import rules
	@unformatted="$$(gofmt -l .)"; [ -z "$$unformatted" ] || { printf 'run make fmt; not formatted:\n%s\n' "$$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags nic,faults ./perf/emulator/...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(DEPGUARD) ./...

generate: check-go ## regenerate the BPF objects and the reference pages
	@{ command -v clang && command -v llvm-strip; } >/dev/null || { echo "make generate: clang and llvm-strip are needed for the BPF programs; run make deps-generate" >&2; exit 1; }
	$(GO) generate ./...

fmt: check-go ## format the Go code
	gofmt -w .

bench-translate: check-go ## benchmark the translator beside its floor
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./translate/

bench-xsk: check-go ## benchmark the AF_XDP sockets beside another implementation (as root)
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./xsk/
	$(GO) test -run '^$$' -bench . -benchtime 1x ./perf/l2fwd/

bench-kernel-path: build ## compare the kernel path with plain forwarding and TAYGA (as root, two minutes)
	@./.ci/as-root ./bin/isthmus perf kernel-path $(BENCHFLAGS)

bench-jump: build ## compare the jump server with OpenSSH's sshd (as root, two minutes)
	@./.ci/as-root ./bin/isthmus perf jump $(BENCHFLAGS)

bench-proxy: build ## compare the web proxy with HAProxy and nginx, if installed (as root, five minutes)
	@./.ci/as-root ./bin/isthmus perf proxy $(BENCHFLAGS)

bench-sync: build ## measure how soon a changed route is served everywhere (as root, three minutes)
	@etcd=$$($(GO) -C perf/tools/etcd tool -n go.etcd.io/etcd/server/v3) && ./.ci/as-root ./bin/isthmus perf routes --etcd "$$etcd" $(BENCHFLAGS)

fuzz: check-go ## run every fuzz target for FUZZTIME (default 30s)
	@GO="$(GO)" ./.ci/fuzz $(FUZZTIME)

arm64: check-go ## vet and build for arm64
	GOARCH=arm64 $(GO) vet ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build -trimpath -o bin/isthmus-arm64 ./cmd/isthmus

# A sentence instead of a screenful of compiler errors.
check-go:
	@command -v $(GO) >/dev/null || { echo "isthmus needs Go $(GO_NEEDED) or newer, and there is no $(GO) here; get it from https://go.dev/dl/" >&2; exit 1; }
	@have=$$(cd / && $(GO) env GOVERSION | sed 's/^go//'); \
	[ "$$(printf '%s\n%s\n' $(GO_NEEDED) "$$have" | sort -V | head -n 1)" = $(GO_NEEDED) ] || \
		[ "$$($(GO) env GOVERSION 2>/dev/null | sed 's/^go//' | cut -d. -f1,2)" = $(GO_NEEDED) ] || \
		{ echo "isthmus needs Go $(GO_NEEDED) or newer, and this is $$have; get it from https://go.dev/dl/" >&2; exit 1; }

# For .ci/run, which checks the import rules themselves with the same version.
print-depguard:
	@echo $(DEPGUARD)
