package simulation

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"

	"carillon/shared/stackname"
	"carillon/tests/simulation/bubble"
)

// Tables are the tables of a run.
type Tables struct{ Pushes, Idempotency string }

type text struct{ S string }

// readCall finds out what a call is of.
func (w *world) readCall(p *bubble.Process, operation string, body []byte) bubble.Call {
	var parsed struct {
		TableName                 string
		IndexName                 string
		Key, Item                 struct{ RequestID, Part, Key text }
		ExpressionAttributeNames  map[string]string
		ExpressionAttributeValues map[string]text
		RequestItems              map[string][]struct {
			PutRequest struct {
				Item struct{ RequestID, Part text }
			}
		}
	}
	_ = json.Unmarshal(body, &parsed) // what cannot be read is of nothing in particular; binary members are not read
	c := bubble.Call{ID: parsed.Key.RequestID.S + parsed.Item.RequestID.S}
	names := []string{
		operation,
		c.ID,
		parsed.Key.Part.S + parsed.Item.Part.S + parsed.Key.Key.S + parsed.Item.Key.S,
	}
	for _, items := range parsed.RequestItems {
		if len(items) > 0 {
			first := items[0].PutRequest.Item
			c.ID, names = first.RequestID.S, []string{operation, first.RequestID.S, first.Part.S}
		}
	}
	if chunk := parsed.ExpressionAttributeNames["#chunk"]; chunk != "" {
		names = append(names, chunk)
	}
	if parsed.IndexName != "" {
		names = append(names, parsed.IndexName, parsed.ExpressionAttributeValues[":partition"].S)
	}
	c.Name = strings.Join(names, "/")
	// When a kept presentation is read again is not for the seed to say.
	c.Free = strings.HasSuffix(c.Name, "/content") && operation == "GetItem" &&
		w.Count("dynamodb", p.ID, c.Name) > 0
	return c
}

// CreateTables makes the tables of a run like those of a stack. drop deletes them.
func CreateTables(ctx context.Context, client *dynamodb.Client, stack string) (t Tables, drop func(), err error) {
	run := "simulation-" + uuid.NewString()[:8]
	t = Tables{Pushes: run + "-pushes", Idempotency: run + "-idempotency"}
	drop = func() {
		for _, name := range []string{t.Pushes, t.Idempotency} {
			// A table that stays costs memory alone: the emulator's, until it ends.
			_, _ = client.DeleteTable(context.WithoutCancel(ctx), &dynamodb.DeleteTableInput{TableName: &name})
		}
	}
	if err := bubble.CreateTable(ctx, client, stackname.PushesTable(stack), t.Pushes); err != nil {
		return t, drop, err
	}
	return t, drop, bubble.CreateTable(ctx, client, stackname.IdempotencyTable(stack), t.Idempotency)
}
