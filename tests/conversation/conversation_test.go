// Package conversation_test has many people written to at once through the real binaries, while the platforms fail and
// processes die, and looks at what arrives at the platforms: each conversation in the order of its 201s, nothing lost,
// and nothing twice that no unanswered call explains.
package conversation_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"carillon/local"
	"carillon/shared/dynamo"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const (
	ottDeliver = "OttDeliverFunction"
	outbound   = "OutboundQueue"
	messenger  = "messenger"
	line       = "line"

	// seedVariable replays a run: what fails is drawn from the seed, the conversation, the message and the try.
	seedVariable = "CARILLON_SEED"
)

var bundle *harness.Bundle

func TestMain(m *testing.M) {
	// SQS and Lambda bring a message twice now and then.
	harness.Main(m, local.Options{Stack: "carillon-conversation", ManualSchedules: true, Duplicates: 9}, &bundle)
}

// conversation is what a property of a test writes to one person.
type conversation struct{ platform, property, person string }

// newProperty registers a property of a platform's and returns so many conversations of it. The first one's person has
// that number, which is the same in each run.
func newProperty(t *testing.T, platform string, first, conversations int) []conversation {
	t.Helper()
	id := uuid.NewString()
	body := harness.RegistrationBody(id, id)
	if platform == line {
		body = fmt.Sprintf(
			`{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":%[1]q,"channelName":"n","channelSecret":%[1]q,
			"endpointUrl":"https://example.com/","isTransactional":true,"isTestChannel":false,"isActive":true}}`,
			id,
		)
	}
	reply := bundle.Post(t, "/ott/v1/registration", body, bundle.OTTBearer(t, bundle.Demo.OTT))
	require.Equal(t, http.StatusCreated, reply.Status, reply.Body)
	all := make([]conversation, conversations)
	for i := range all {
		person := fmt.Sprintf("U%032x", first+i)
		if platform == messenger {
			person = fmt.Sprintf("1%015d", first+i)
		}
		all[i] = conversation{platform, id, person}
	}
	return all
}

// say sends so many messages, each once the one before has its 201. What is not accepted is asked for again.
func (c conversation) say(ctx context.Context, bearer map[string]string, messages int) error {
	for i := range messages {
		body := fmt.Sprintf(`{"messageKey":%q,"from":{"senderType":%q,"senderId":%q},"to":{"ottId":%q},"message":{
			"contents":[{"type":"text","text":%q}],"customKeys":[{"messagingType":"RESPONSE"}]},"validityPeriod":3600}`,
			uuid.NewString(), c.platform, c.property, c.person, strconv.Itoa(i))
		for tries := 1; ; tries++ {
			reply, err := bundle.Exchange(ctx, http.MethodPost, "/ott/v1/send", body, bearer)
			if err == nil && reply.Status == http.StatusCreated {
				break
			}
			if tries == 20 {
				return fmt.Errorf("message %d to %s is refused: %d %s %w", i, c.person, reply.Status, reply.Body, err)
			}
		}
	}
	return nil
}

// Whatever the platforms do and however often ott-deliver dies.
func TestFiftyConversationsWithFaults(t *testing.T) {
	const properties, each, messages, kills = 10, 5, 20, 3
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", seedVariable, seed)
	cleanUp(t)
	// What a killed process had comes again after seconds, instead of a minute and a half.
	setVisibilityTimeout(t, "6")
	var holding gate
	at := newPlatforms(t, func(person, text string, unanswered, tries int) fate {
		draw := draws(seed, person, text, tries)
		if unanswered > 0 { // Messenger's third is the last one; a kill may cost one that was not seen here
			return []fate{taken, taken, failed}[draw.IntN(3)]
		}
		if holding.isShut() {
			return []fate{hanging, hangLate}[draw.IntN(2)]
		}
		if draw.IntN(100) >= 8 {
			return taken
		}
		return []fate{failed, busy, transient, cut, cutLate}[draw.IntN(5)]
	})

	var all []conversation
	for i := range properties {
		all = append(all, newProperty(t, []string{messenger, line}[i%2], i*each, each)...)
	}
	bearer := bundle.OTTBearer(t, bundle.Demo.OTT)
	var sending errgroup.Group
	for _, c := range all {
		sending.Go(func() error { return c.say(t.Context(), bearer, messages) })
	}
	shown := func() int { return at.count(func(c try) bool { return c.took }) }
	for round := range kills {
		harness.Eventually(t, "the conversations go on", func() (int, bool) {
			n := shown()
			return n, n >= (round+1)*len(all)*messages/(2*kills)
		})
		killInTheMiddle(t, at, &holding)
	}
	require.NoError(t, sending.Wait())
	harness.Within(t, 3*time.Minute, "every job is done", func() (map[string]string, bool) {
		counts := waiting(t)
		left := 0
		for _, n := range counts {
			if n != "0" {
				left++
			}
		}
		return counts, left == 0
	})
	tries := map[string][]try{}
	for _, c := range at.all() {
		tries[c.person] = append(tries[c.person], c)
	}
	keys := map[string]string{} // LINE's retry keys, and whose they are
	for _, c := range all {
		inOrder(t, c, messages, tries[c.person])
		noneTwice(t, c, tries[c.person])
		for _, try := range tries[c.person] {
			if c.platform != line {
				continue
			}
			if whose, known := keys[try.retryKey]; known {
				assert.Equal(t, whose, try.person+" "+try.text, "a retry key is one message's")
			}
			keys[try.retryKey] = try.person + " " + try.text
		}
	}
	assert.LessOrEqual(t, len(keys), len(all)/2*messages, "LINE is sent a message under one retry key")
	t.Logf("%d calls for %d messages", len(at.all()), len(all)*messages)
}

// inOrder checks that each message came to the platform once the one before was taken.
func inOrder(t *testing.T, c conversation, messages int, tries []try) {
	t.Helper()
	shown, next := map[string]bool{}, 0
	for _, try := range tries {
		if next < messages && try.text == strconv.Itoa(next) { // its first arrival
			if next > 0 {
				assert.True(t, shown[strconv.Itoa(next-1)], "%s before the one before it is taken: %v", try, tries)
			}
			next++
		}
		n, err := strconv.Atoi(try.text)
		require.NoError(t, err)
		assert.Less(t, n, next, "%v: message %d comes before its turn: %v", c, n, tries)
		shown[try.text] = shown[try.text] || try.took
	}
	assert.Len(t, shown, messages, "%v: every message arrives: %v", c, tries)
	for text, took := range shown {
		assert.True(t, took, "%v: message %s is lost: %v", c, text, tries)
	}
}

// noneTwice checks that each call after a message's first one is explained by the one before it.
func noneTwice(t *testing.T, c conversation, tries []try) {
	t.Helper()
	last, unanswered, shown := map[string]try{}, map[string]int{}, map[string]int{}
	for _, try := range tries {
		before, again := last[try.text]
		if again {
			assert.False(t, before.fate == taken && !before.killed, "%v: one call too many: %v", c, tries)
		}
		last[try.text] = try
		if !try.answered() {
			unanswered[try.text]++
		}
		if try.took {
			shown[try.text]++
		}
	}
	for text, n := range shown {
		if c.platform == line {
			assert.Equal(t, 1, n, "%v: LINE shows message %s once", c, text)
		}
		assert.LessOrEqual(t, unanswered[text], 3, "%v: message %s: %v", c, text, tries)
	}
}

// killInTheMiddle kills every process of ott-deliver while calls of some hang, which the platform has taken or not, and
// lets the time pass in which the messages are the killed processes' own.
func killInTheMiddle(t *testing.T, at *platforms, holding *gate) {
	t.Helper()
	const calls = 5
	holding.shut()
	harness.Eventually(t, "calls hang", func() (int, bool) {
		n := at.count(func(c try) bool { return c.open && c.hangs() })
		return n, n >= calls
	})
	bundle.PauseQueues(outbound)
	require.Positive(t, bundle.Function(ottDeliver).Kill())
	at.killed()
	holding.open()
	for _, item := range bundle.Scan(t, stackname.MessagesTable) {
		if dynamo.GetString(item, "lease") == "" {
			continue
		}
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String(bundle.Table(stackname.MessagesTable)), Key: dynamo.Item{"id": item["id"]},
			UpdateExpression:          aws.String("SET notBefore = :long_ago"),
			ExpressionAttributeValues: dynamo.Item{":long_ago": dynamo.Int(1)},
		})
		require.NoError(t, err)
	}
	bundle.ResumeQueues(outbound)
}

// A property whose platform never answers has a hundred conversations under way; those of another one go on as ever.
func TestAHangingPropertyHoldsUpNoOther(t *testing.T) {
	const many, few, messages = 100, 5, 3
	hung := map[string]bool{}
	slow := newProperty(t, messenger, 1000, many)
	for _, c := range slow {
		hung[c.person] = true
	}
	at := newPlatforms(t, func(person, _ string, _, _ int) fate {
		if hung[person] {
			return hanging
		}
		return taken
	})
	cleanUp(t)
	bearer := bundle.OTTBearer(t, bundle.Demo.OTT)
	say := func(conversations []conversation, messages int) {
		t.Helper()
		var sending errgroup.Group
		for _, c := range conversations {
			sending.Go(func() error { return c.say(t.Context(), bearer, messages) })
		}
		require.NoError(t, sending.Wait())
	}
	quick := newProperty(t, messenger, 2000, few)
	quick = append(quick, newProperty(t, line, 3000, few)...)
	say(slow, 1)
	harness.Eventually(t, "calls hang", func() (int, bool) {
		n := at.count(func(c try) bool { return c.hangs() && c.open })
		return n, n > 0
	})
	say(quick, messages)
	harness.Eventually(t, "the others' arrive", func() (int, bool) {
		n := at.count(func(c try) bool { return c.took })
		return n, n == len(quick)*messages
	})
	assert.Positive(t, at.count(func(c try) bool { return c.took && c.beside > 0 }),
		"the others' arrive while the first property's calls hang")
	tries := map[string][]try{}
	for _, c := range at.all() {
		tries[c.person] = append(tries[c.person], c)
	}
	for _, c := range quick {
		inOrder(t, c, messages, tries[c.person])
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	assert.LessOrEqual(t, at.most[true], 12, "60 %% of the calls that the stack makes at the same time")
}

// cleanUp leaves no job to the next test, and shows what ott-deliver said last if the test fails.
func cleanUp(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, bundle.PurgeQueue(context.Background(), outbound))
		if t.Failed() {
			log := bundle.LogOf(ottDeliver)
			for _, line := range log[max(0, len(log)-50):] {
				t.Log(line[:min(len(line), 400)])
			}
		}
	})
}

// draws returns what is drawn for one try of a message: the same for the same seed, whatever goes on beside it.
func draws(seed uint64, person, text string, try int) *rand.Rand {
	about, _ := json.Marshal([]any{person, text, try})
	hash := sha256.Sum256(about)
	return rand.New(rand.NewPCG(seed, binary.BigEndian.Uint64(hash[:])))
}

// waiting returns what SQS says that the outbound queue holds.
func waiting(t *testing.T) map[string]string {
	t.Helper()
	out, err := bundle.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(bundle.QueueURL(outbound)),
		AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages,
			types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		},
	})
	require.NoError(t, err)
	return out.Attributes
}

// setVisibilityTimeout changes how many seconds the outbound queue waits for whoever took a message, until the test
// ends.
func setVisibilityTimeout(t *testing.T, seconds string) {
	t.Helper()
	const name = types.QueueAttributeNameVisibilityTimeout
	set := func(ctx context.Context, value string) {
		_, err := bundle.SQS().SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(bundle.QueueURL(outbound)), Attributes: map[string]string{string(name): value},
		})
		require.NoError(t, err)
	}
	before, err := bundle.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(bundle.QueueURL(outbound)), AttributeNames: []types.QueueAttributeName{name},
	})
	require.NoError(t, err)
	set(t.Context(), seconds)
	t.Cleanup(func() { set(context.Background(), before.Attributes[string(name)]) })
}
