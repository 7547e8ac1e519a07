// Command queues is a function that is fed from queues, and does what its messages say.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/clock"
	"carillon/shared/queue"
)

// job is a message. It comes round until the last round, each one a message of its own.
type job struct {
	Round int
	Last  int
	Hold  bool // until the function's time is over
}

func main() {
	config, err := awsconfig.FromEnvironment()
	if err != nil {
		panic(err)
	}
	sender := queue.NewSender[job](sqs.NewFromConfig(config), os.Getenv("QUEUE_URL"), clock.System{})
	lambda.Start(func(ctx context.Context, event events.SQSEvent) error {
		fmt.Printf("%d of %s\n", len(event.Records), event.Records[0].EventSourceARN)
		for _, record := range event.Records {
			var j job
			if err := json.Unmarshal([]byte(record.Body), &j); err != nil {
				return err
			}
			if j.Hold {
				<-ctx.Done()
				return ctx.Err()
			}
			fmt.Printf("round %d\n", j.Round)
			if j.Round < j.Last {
				next := queue.Entry[job]{Job: job{Round: j.Round + 1, Last: j.Last}}
				if err := sender.Send(ctx, next); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
