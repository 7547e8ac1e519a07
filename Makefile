# `make` lists what there is. Everything that is downloaded lands in .local/, at the versions pinned here.

GOLANGCI_LINT_VERSION := v2.15.0
SAM_CLI_VERSION       := 1.170.0
CFN_LINT_VERSION      := 1.58.0

# sam needs a region even to validate; telemetry of a build tool has no place in a build.
export AWS_DEFAULT_REGION ?= us-east-1
export SAM_CLI_TELEMETRY  := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

LOCAL         := $(CURDIR)/.local
GOLANGCI_LINT := $(LOCAL)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
SAM_VENV      := $(LOCAL)/venv-sam-$(SAM_CLI_VERSION)-cfn-lint-$(CFN_LINT_VERSION)
SAM           := $(SAM_VENV)/bin/sam
CFN_LINT      := $(SAM_VENV)/bin/cfn-lint
SAM_INSTALLED := $(SAM_VENV)/.installed

FUZZTIME   ?= 10s
# Most of the time tests wait: for functions to start, leases, time-outs. So three packages run at once on two cores.
TESTFLAGS  ?= -race -shuffle=on -count=1 -timeout=20m -p 3
# Simulated worlds of `make test`, ENGAGE's and OTT's, which run without the race detector, and of `make simulate`.
TESTSEEDS    ?= 200
OTTTESTSEEDS ?= 100

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## run the bundle on this machine: no AWS account, no Docker (PORT, GATEWAY_URL, PROVIDER_URL)
	@mkdir -p $(LOCAL)
	@go build -buildvcs=auto -o $(LOCAL)/carillon ./cmd/carillon
	@exec $(LOCAL)/carillon local

.PHONY: test
test: vet lint lint-template ## everything that CI checks; ends with go test's own lines
	@docker info >/dev/null 2>&1 || printf '%s\n' '' '*** NO DOCKER ENGINE: the test of sam local (tests/samlocal) WILL BE SKIPPED, not passed. ***' '' >&2
	go test $(TESTFLAGS) ./...
	go test -count=1 -timeout=20m ./tests/simulation -seeds $(TESTSEEDS)
	go test -count=1 -timeout=20m -run '^TestSeeds$$' ./tests/simulation/ott -seeds $(OTTTESTSEEDS)

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## golangci-lint
	$(GOLANGCI_LINT) run --allow-parallel-runners

.PHONY: lint-template
lint-template: $(SAM_INSTALLED) ## cfn-lint and sam validate --lint
	$(CFN_LINT) template.yaml
	$(SAM) validate --lint

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz: ## every fuzz target for a while each (FUZZTIME=10s)
	@set -e; for dir in $$(go list -f '{{.Dir}}' ./...); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$dir/*_test.go 2>/dev/null); do \
	    echo "== $${dir#$(CURDIR)/} $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir; \
	  done; \
	done

SEED  ?= 1
SEEDS ?= 1000

WORLD ?= engage

.PHONY: simulate
simulate: ## simulated worlds of ENGAGE, or of OTT (WORLD=ott SEEDS=1000); one with all that happens (SEED=n SEEDS=1)
	go test -count=1 -timeout=0 -v -run '^TestSeeds$$' ./tests/simulation$(if $(filter ott,$(WORLD)),/ott) -seed $(SEED) -seeds $(SEEDS) $(if $(filter 1,$(SEEDS)),-full)

.PHONY: bench
bench: ## every benchmark
	go test -run '^$$' -bench . -benchmem ./...

# One rule builds every function: SAM and `carillon local` ask for build-<logical id> and name the ARTIFACTS_DIR.
# OauthTokenFunction is functions/oauth-token. The build information of the repository stays out of the binary, so that
# the same sources give the same package.
build-%: export CGO_ENABLED = 0
build-%: export GOOS = linux
build-%: export GOARCH := $(or $(GOARCH),arm64)
build-%:
	@test -n "$(ARTIFACTS_DIR)" || { echo "$@ is for 'sam build': it needs ARTIFACTS_DIR" >&2; exit 2; }
	go build -tags lambda.norpc -trimpath -buildvcs=false -ldflags "-s -w" -o "$(ARTIFACTS_DIR)/bootstrap" \
	  ./functions/$(shell echo '$*' | sed -E 's/Function$$//; s/([a-z0-9])([A-Z])/\1-\2/g' | tr 'A-Z' 'a-z')

.PHONY: sam-local
sam-local: $(SAM_INSTALLED) ## the bundle under `sam local start-api` in Docker, against the emulators (PORT)
	@mkdir -p $(LOCAL)/sam-local
	go build -o $(LOCAL)/sam-local/start ./tests/samlocal/start
	@exec $(LOCAL)/sam-local/start -sam $(SAM)

.PHONY: sam-cli
sam-cli: $(SAM_INSTALLED) ## install the SAM CLI and say where it is
	@echo $(SAM)

.PHONY: clean
clean: ## remove what was built; the installed tools stay (.local)
	rm -rf .aws-sam
	go clean -testcache

$(GOLANGCI_LINT):
	@echo "installing golangci-lint $(GOLANGCI_LINT_VERSION) (two or three minutes, once)"
	@GOBIN=$(@D) GOFLAGS= CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

# A mark, written last: an interrupted install is not taken for a whole one.
$(SAM_INSTALLED):
	@echo "installing the SAM CLI $(SAM_CLI_VERSION) and cfn-lint $(CFN_LINT_VERSION) (a minute or two, once)"
	@rm -rf $(SAM_VENV)
	@python3 -m venv $(SAM_VENV)
	@$(SAM_VENV)/bin/pip install --quiet aws-sam-cli==$(SAM_CLI_VERSION) cfn-lint==$(CFN_LINT_VERSION)
	@touch $@
