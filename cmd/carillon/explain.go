package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"

	"carillon/provision"
)

// explain says what went wrong in words that lead on: what to do about it, not only what AWS called it.
func explain(err error) string {
	if _, ok := errors.AsType[provision.Faults](err); ok {
		return err.Error()
	}
	switch {
	case errors.Is(err, provision.ErrExists):
		return err.Error() + ". `carillon client rotate` gives it a new secret; `carillon client remove` makes room for another"
	case errors.Is(err, provision.ErrNotFound):
		return err.Error() + ". `carillon client list` shows those there are"
	case errors.Is(err, provision.ErrNoStack):
		return err.Error() + ". Deploy it first (`sam build && sam deploy`), or say which one is meant with --stack, --region, --profile or --local"
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return explainAPI(err, api)
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "dial" {
		return fmt.Sprintf(
			"nothing answers at %s. With --local: is `make run` still running? Otherwise check the network and --region",
			failed.Addr,
		)
	}
	// The SDK has no type for it.
	if strings.Contains(err.Error(), "get credentials:") ||
		strings.Contains(err.Error(), "failed to refresh cached credentials") {
		return "no AWS credentials: sign in (`aws sso login`, `aws configure`), or choose a profile with --profile; --local needs none"
	}
	return err.Error()
}

func explainAPI(err error, api smithy.APIError) string {
	switch api.ErrorCode() {
	case "AccessDeniedException", "AccessDenied", "UnauthorizedOperation":
		return fmt.Sprintf("not allowed: these credentials lack %s. AWS says: %s", action(err), api.ErrorMessage())
	case "ExpiredTokenException",
		"ExpiredToken",
		"UnrecognizedClientException",
		"InvalidClientTokenId",
		"InvalidSignatureException",
		"IncompleteSignature":
		return fmt.Sprintf(
			"AWS does not accept these credentials (%s): sign in again, or choose others with --profile",
			api.ErrorCode(),
		)
	case "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded":
		return "AWS is throttling: wait a moment and do the same again, nothing is lost"
	}
	return err.Error()
}

// action names the IAM action behind a refused call, as a policy would.
func action(err error) string {
	call, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return "a permission"
	}
	return strings.ToLower(strings.ReplaceAll(call.Service(), " ", "")) + ":" + call.Operation()
}
