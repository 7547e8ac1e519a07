// Command engage-schedule is the function that EventBridge Scheduler invokes every minute.
package main

import (
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/engage"
	"carillon/shared/lambdafunction"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	env, config := s.Env, s.Config
	pushesTable := env.String("PUSHES_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	scheduler := &engage.Scheduler{
		Pushes: engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
		Queue:  engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
	}
	return scheduler.Sweep
}
