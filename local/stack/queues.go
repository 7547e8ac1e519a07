package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"carillon/local/template"
)

// createQueues makes the queues one after the other: a dead-letter queue before those that name it.
func createQueues(
	ctx context.Context,
	client *sqs.Client,
	queues []template.Queue,
) (map[string]template.Physical, error) {
	made := map[string]template.Physical{} // by logical id
	arns := map[string]bool{}
	for rest := queues; len(rest) > 0; {
		i := slices.IndexFunc(
			rest,
			func(q template.Queue) bool { return q.DeadLetterARN == "" || arns[q.DeadLetterARN] },
		)
		if i < 0 {
			return nil, fmt.Errorf(
				"creating queue %s: its dead-letter queue %s is not in the template",
				rest[0].LogicalID,
				rest[0].DeadLetterARN,
			)
		}
		queue := rest[i]
		physical, err := createQueue(ctx, client, queue)
		if err != nil {
			return nil, fmt.Errorf("creating queue %s: %w", queue.LogicalID, err)
		}
		made[queue.LogicalID] = physical
		arns[physical.Attributes["Arn"]] = true
		rest = slices.Delete(slices.Clone(rest), i, i+1)
	}
	return made, nil
}

func createQueue(ctx context.Context, client *sqs.Client, queue template.Queue) (template.Physical, error) {
	attributes := maps.Clone(queue.Attributes)
	if queue.DeadLetterARN != "" {
		policy, err := json.Marshal(
			map[string]any{"deadLetterTargetArn": queue.DeadLetterARN, "maxReceiveCount": queue.MaxReceiveCount},
		)
		if err != nil {
			return template.Physical{}, err
		}
		attributes[string(sqstypes.QueueAttributeNameRedrivePolicy)] = string(policy)
	}
	created, err := client.CreateQueue(
		ctx,
		&sqs.CreateQueueInput{QueueName: aws.String(queue.Name), Attributes: attributes},
	)
	if err != nil {
		return template.Physical{}, err
	}
	known, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: created.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	if err != nil {
		return template.Physical{}, err
	}
	return template.Physical{Ref: aws.ToString(created.QueueUrl), Attributes: map[string]string{
		"Arn":       known.Attributes[string(sqstypes.QueueAttributeNameQueueArn)],
		"QueueName": queue.Name,
		"QueueUrl":  aws.ToString(created.QueueUrl),
	}}, nil
}
