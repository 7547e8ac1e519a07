// Command function misbehaves as its payload says.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type request struct {
	Do string `json:"do"`
	N  int    `json:"n"`
}

func main() {
	if os.Getenv("REFUSE_TO_START") != "" {
		fmt.Println("no such table")
		os.Exit(7)
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, r request) (any, error) {
	switch r.Do {
	case "environment":
		return os.Environ(), nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{"requestId": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "leftMs": time.Until(deadline).Milliseconds(), "trace": ctx.Value("x-amzn-trace-id")}, nil
	case "log":
		fmt.Println("a line")
	case "crash":
		os.Exit(3)
	case "error":
		return nil, errors.New("out of luck")
	case "hang":
		fmt.Println("hanging")
		select {}
	case "memory", "peak":
		held := bytes.Repeat([]byte{1}, r.N<<20)
		if r.Do == "peak" { // and frees it before it answers
			return len(held), nil
		}
		fmt.Println("holding")
		for {
			time.Sleep(time.Hour)
			runtime.KeepAlive(held)
		}
	case "large":
		return strings.Repeat("x", r.N), nil
	}
	return json.RawMessage(fmt.Sprint(os.Getpid())), nil
}
