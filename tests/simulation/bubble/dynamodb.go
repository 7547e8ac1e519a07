package bubble

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// ResponseTimeout is how long the code under test waits for AWS (package awsconfig).
const ResponseTimeout = 5 * time.Second

// BareTransport is the way to DynamoDB without anything in between.
type BareTransport struct{ Bridge *Bridge }

// RoundTrip carries out a call.
func (t BareTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	return t.Bridge.Do(request, body)
}

// DynamoTransport is a process's way to DynamoDB, on which calls take time, are throttled, lose their answers, and
// processes die.
type DynamoTransport struct{ Process *Process }

// Call is what identifies a call of DynamoDB.
type Call struct {
	ID   string // of whose call it is; "" if it is nobody's in particular
	Name string // operation and key
	// Free says that the call takes no time and has no fault. So it is with one that depends on what the seed does not
	// say: then it makes no difference whether it is made.
	Free bool
}

// RoundTrip carries out a call.
func (t *DynamoTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	p, w := t.Process, t.Process.World
	f := &w.Faults
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	call := w.ReadCall(p, operation, body)
	d := w.Dice("dynamodb", p.ID, call.Name)
	before, after := d.Between(time.Millisecond, 5*time.Millisecond), d.Between(time.Millisecond/2, 3*time.Millisecond)
	throttled, lost, slow, killed := d.Chance(f.Throttled), d.Chance(f.AnswerLost), d.Chance(f.Slow), d.Chance(f.Killed)
	late, killedBefore, storm := d.Between(0, 2*ResponseTimeout), d.Chance(0.5), d.Chance(0.7)
	if call.Free {
		before, after, throttled, lost, slow, killed, storm = 0, 0, false, false, false, false, false
	}
	if err := Sleep(request.Context(), before); err != nil {
		return nil, err
	}
	if now := time.Now(); now.After(f.StormFrom) && now.Before(f.StormTo) && storm {
		throttled = true
	}
	if killed && killedBefore {
		p.Kill("before " + call.Name)
	}
	if p.IsDead() {
		return nil, ErrKilled
	}
	if w.Traced {
		w.Say(call.ID, "%s: %s", p.ID, call.Name)
	}
	if throttled {
		p.Hit(call.ID, "DynamoDB throttles %s", call.Name)
		const text = `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"throttled"}`
		header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}}
		return NewAnswer(request, http.StatusBadRequest, header, []byte(text)), nil
	}
	response, err := w.Bridge.Do(request, body)
	if err != nil {
		return nil, err
	}
	if killed {
		p.Kill("after " + call.Name)
		return nil, ErrKilled
	}
	if slow {
		p.Hit(call.ID, "DynamoDB is slow to answer %s", call.Name)
		if after = late; late > ResponseTimeout {
			after, lost = ResponseTimeout, true
		}
	}
	if err := Sleep(request.Context(), after); err != nil {
		return nil, err
	}
	if p.IsDead() {
		return nil, ErrKilled
	}
	if lost {
		p.Hit(call.ID, "the answer to %s is lost", call.Name)
		return nil, io.ErrUnexpectedEOF
	}
	return response, nil
}

// CreateTable makes a table like another one. It returns DynamoDB's error.
func CreateTable(ctx context.Context, client *dynamodb.Client, model, name string) error {
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
