package simulation

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"

	"carillon/shared/stackname"
)

// Tables are the tables of a run.
type Tables struct{ Pushes, Idempotency string }

// responseTimeout is how long the code under test waits for AWS (package awsconfig).
const responseTimeout = 5 * time.Second

// bareTransport is the way to DynamoDB without anything in between.
type bareTransport struct{ bridge *Bridge }

// RoundTrip carries out a call.
func (t bareTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	return t.bridge.do(request, body)
}

// dynamoTransport is a process's way to DynamoDB, on which calls take time, are throttled, lose their answers, and
// processes die.
type dynamoTransport struct{ process *process }

// dynamoCall is what identifies a call.
type dynamoCall struct {
	operation string
	requestID string // "" if the call is not of one push
	name      string // operation and key
}

// RoundTrip carries out a call.
func (t *dynamoTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	p, w := t.process, t.process.world
	f := &w.scenario.faults
	call := readCall(request, body)
	d := w.dice("dynamodb", p.id, call.name)
	before, after := d.between(time.Millisecond, 5*time.Millisecond), d.between(time.Millisecond/2, 3*time.Millisecond)
	throttled, lost, slow, killed := d.chance(f.throttled), d.chance(f.answerLost), d.chance(f.slow), d.chance(f.killed)
	late, killedBefore, storm := d.between(0, 2*responseTimeout), d.chance(0.5), d.chance(0.7)
	if strings.HasSuffix(call.name, "/content") && call.operation == "GetItem" &&
		w.count("dynamodb", p.id, call.name) > 0 {
		// When a kept presentation is read again is not for the seed to say: it takes no time, so that it makes no
		// difference.
		before, after, throttled, lost, slow, killed, storm = 0, 0, false, false, false, false, false
	}
	if err := sleep(request.Context(), before); err != nil {
		return nil, err
	}
	if now := time.Now(); now.After(f.stormFrom) && now.Before(f.stormTo) && storm {
		throttled = true
	}
	if killed && killedBefore {
		p.kill("before " + call.name)
	}
	if p.isDead() {
		return nil, errKilled
	}
	if w.trace {
		w.say(call.requestID, "%s: %s", p.id, call.name)
	}
	if throttled {
		p.hit(call.requestID, "DynamoDB throttles %s", call.name)
		const text = `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"throttled"}`
		header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}}
		return newAnswer(request, http.StatusBadRequest, header, []byte(text)), nil
	}
	response, err := w.bridge.do(request, body)
	if err != nil {
		return nil, err
	}
	if killed {
		p.kill("after " + call.name)
		return nil, errKilled
	}
	if slow {
		p.hit(call.requestID, "DynamoDB is slow to answer %s", call.name)
		if after = late; late > responseTimeout {
			after, lost = responseTimeout, true
		}
	}
	if err := sleep(request.Context(), after); err != nil {
		return nil, err
	}
	if p.isDead() {
		return nil, errKilled
	}
	if lost {
		p.hit(call.requestID, "the answer to %s is lost", call.name)
		return nil, io.ErrUnexpectedEOF
	}
	return response, nil
}

type text struct{ S string }

// readCall finds out what a call is of.
func readCall(request *http.Request, body []byte) dynamoCall {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
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
	c := dynamoCall{operation: operation, requestID: parsed.Key.RequestID.S + parsed.Item.RequestID.S}
	names := []string{
		operation,
		c.requestID,
		parsed.Key.Part.S + parsed.Item.Part.S + parsed.Key.Key.S + parsed.Item.Key.S,
	}
	for _, items := range parsed.RequestItems {
		if len(items) > 0 {
			first := items[0].PutRequest.Item
			c.requestID, names = first.RequestID.S, []string{operation, first.RequestID.S, first.Part.S}
		}
	}
	if chunk := parsed.ExpressionAttributeNames["#chunk"]; chunk != "" {
		names = append(names, chunk)
	}
	if parsed.IndexName != "" {
		names = append(names, parsed.IndexName, parsed.ExpressionAttributeValues[":partition"].S)
	}
	c.name = strings.Join(names, "/")
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
	if err := createTable(ctx, client, stackname.PushesTable(stack), t.Pushes); err != nil {
		return t, drop, err
	}
	return t, drop, createTable(ctx, client, stackname.IdempotencyTable(stack), t.Idempotency)
}

// createTable makes a table like another one.
func createTable(ctx context.Context, client *dynamodb.Client, model, name string) error {
	described, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &model})
	if err != nil {
		return err
	}
	in := &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		KeySchema: described.Table.KeySchema, AttributeDefinitions: described.Table.AttributeDefinitions,
	}
	for _, index := range described.Table.GlobalSecondaryIndexes {
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: index.IndexName, KeySchema: index.KeySchema, Projection: index.Projection,
		})
	}
	_, err = client.CreateTable(ctx, in)
	return err
}
