package template

// Queue is an AWS::SQS::Queue.
type Queue struct {
	LogicalID string
	Name      string
	// Attributes are those of the template by SQS's own names: VisibilityTimeout, DelaySeconds and the like.
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
	var queues []Queue
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, append([]string{"QueueName", "RedrivePolicy"}, plain...)...)
		queue := Queue{
			LogicalID:  resource.id,
			Name:       r.text("QueueName", r.properties["QueueName"], t.generatedName(resource.id)),
			Attributes: map[string]string{},
		}
		for _, name := range plain {
			if value, ok := r.properties[name]; ok {
				r.integer(name, value, 0)
				queue.Attributes[name] = text(value)
			}
		}
		if redrive := r.object("RedrivePolicy", r.properties["RedrivePolicy"]); redrive != nil {
			r.only("RedrivePolicy", redrive, "deadLetterTargetArn", "maxReceiveCount")
			queue.DeadLetterARN = r.text("deadLetterTargetArn", redrive["deadLetterTargetArn"], "")
			queue.MaxReceiveCount = r.integer("maxReceiveCount", redrive["maxReceiveCount"], 0)
			if queue.DeadLetterARN == "" || queue.MaxReceiveCount < 1 {
				r.fail("%s: RedrivePolicy wants deadLetterTargetArn and maxReceiveCount", resource.id)
			}
		}
		if r.err != nil {
			return nil, r.err
		}
		queues = append(queues, queue)
	}
	return queues, nil
}
