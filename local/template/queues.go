package template

import (
	"slices"
	"strings"
)

// fifoSuffix ends the name of every FIFO queue, and of no other.
//
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-sqs-queue.html
const fifoSuffix = ".fifo"

// Queue is an AWS::SQS::Queue.
type Queue struct {
	LogicalID string
	Name      string
	// FIFO queues hand out the messages of a group one after the other. Their names end in .fifo.
	FIFO bool
	// Attributes are those of the template by SQS's own names: VisibilityTimeout, DelaySeconds, FifoQueue and the like.
	Attributes map[string]string
	// DeadLetterARN is where a message goes that was received MaxReceiveCount times; empty without a RedrivePolicy.
	DeadLetterARN   string
	MaxReceiveCount int
}

// Queues returns the queues that this deployment has, in the template's order.
func (t *Template) Queues() ([]Queue, error) {
	resources, err := t.live(typeQueue)
	if err != nil {
		return nil, err
	}
	plain := []string{
		"VisibilityTimeout",
		"MessageRetentionPeriod",
		"DelaySeconds",
		"MaximumMessageSize",
		"ReceiveMessageWaitTimeSeconds",
	}
	ofFIFO := []string{"ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}
	known := slices.Concat([]string{"QueueName", "RedrivePolicy", "FifoQueue"}, plain, ofFIFO)
	var queues []Queue
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, known...)
		queue := Queue{
			LogicalID:  resource.id,
			Name:       t.queueName(r, resource.id),
			FIFO:       r.boolean("FifoQueue", r.properties["FifoQueue"], false),
			Attributes: map[string]string{},
		}
		for _, name := range plain {
			if value, ok := r.properties[name]; ok {
				r.integer(name, value, 0)
				queue.Attributes[name] = text(value)
			}
		}
		r.fifo(queue, ofFIFO)
		if redrive := r.object("RedrivePolicy", r.properties["RedrivePolicy"]); redrive != nil {
			r.only("RedrivePolicy", redrive, "deadLetterTargetArn", "maxReceiveCount")
			queue.DeadLetterARN = r.text("deadLetterTargetArn", redrive["deadLetterTargetArn"], "")
			queue.MaxReceiveCount = r.integer("maxReceiveCount", redrive["maxReceiveCount"], 0)
			if queue.DeadLetterARN == "" || queue.MaxReceiveCount < 1 {
				r.fail("%s: RedrivePolicy wants deadLetterTargetArn and maxReceiveCount", resource.id)
			}
			if strings.HasSuffix(queue.DeadLetterARN, fifoSuffix) != queue.FIFO {
				r.fail("%s: the dead-letter queue of a FIFO queue, and of no other, is a FIFO queue", resource.id)
			}
		}
		if r.err != nil {
			return nil, r.err
		}
		queues = append(queues, queue)
	}
	return queues, nil
}

// queueName returns a queue's name; the one that CloudFormation makes up ends as the queue's kind asks.
func (t *Template) queueName(r *reader, id string) string {
	otherwise := t.generatedName(id)
	if r.boolean("FifoQueue", r.properties["FifoQueue"], false) {
		otherwise += fifoSuffix
	}
	return r.text("QueueName", r.properties["QueueName"], otherwise)
}

// fifo reads what only FIFO queues have into the queue's attributes, and refuses what SQS refuses.
//
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
func (r *reader) fifo(queue Queue, names []string) {
	if !queue.FIFO {
		if _, given := r.properties["FifoQueue"]; given {
			r.fail("%s: FifoQueue is true or left out", queue.LogicalID)
		}
		for _, name := range names {
			if _, given := r.properties[name]; given {
				r.fail("%s: only a FIFO queue has %s", queue.LogicalID, name)
			}
		}
		if strings.HasSuffix(queue.Name, fifoSuffix) {
			r.fail("%s: only a FIFO queue has a name that ends in %s", queue.LogicalID, fifoSuffix)
		}
		return
	}
	if !strings.HasSuffix(queue.Name, fifoSuffix) {
		r.fail("%s: a FIFO queue has a name that ends in %s", queue.LogicalID, fifoSuffix)
	}
	queue.Attributes["FifoQueue"] = "true"
	allowed := map[string][]string{
		"ContentBasedDeduplication": {"true", "false"},
		"DeduplicationScope":        {"queue", "messageGroup"},
		"FifoThroughputLimit":       {"perQueue", "perMessageGroupId"},
	}
	for _, name := range names {
		value, given := r.properties[name]
		if !given {
			continue
		}
		queue.Attributes[name] = text(value)
		if !slices.Contains(allowed[name], text(value)) {
			r.fail("%s: %s must be one of %s", queue.LogicalID, name, strings.Join(allowed[name], ", "))
		}
	}
	perGroup := queue.Attributes["FifoThroughputLimit"] == "perMessageGroupId"
	if perGroup && queue.Attributes["DeduplicationScope"] != "messageGroup" {
		r.fail("%s: FifoThroughputLimit perMessageGroupId wants DeduplicationScope messageGroup", queue.LogicalID)
	}
}
