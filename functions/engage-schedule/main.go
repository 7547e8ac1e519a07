// Command engage-schedule is the function that EventBridge Scheduler invokes every minute.
package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/lambdafunction"
)

func main() { lambdafunction.Main(setUp) }

func setUp() (any, error) {
	var env environment.Variables
	pushesTable := env.String("PUSHES_TABLE")
	queueURL := env.String("DELIVERY_QUEUE_URL")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return nil, err
	}
	scheduler := &engage.Scheduler{
		Pushes: engage.NewPushStore(dynamodb.NewFromConfig(config), pushesTable),
		Queue:  engage.NewDeliveryQueue(sqs.NewFromConfig(config), queueURL),
	}
	return scheduler.Sweep, nil
}
