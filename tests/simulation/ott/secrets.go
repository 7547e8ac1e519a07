package ott

import (
	"net/http"
	"sync"
	"time"
)

const (
	signingName = "signing"
	// unseenFor is how long a new secret may be not there for those who read it.
	unseenFor = 3 * time.Second
)

// secrets is Secrets Manager. A secret that was just made is not there for everybody at once.
type secrets struct {
	world *world

	mu   sync.Mutex
	kept map[string]*keptSecret
}

type keptSecret struct {
	value   string
	seen    time.Time // from when on it can be read
	deleted bool
}

func newSecrets(w *world) *secrets {
	return &secrets{world: w, kept: map[string]*keptSecret{signingName: {value: "a signing key of thirty-two bytes"}}}
}

type secretAnswer struct {
	ARN, Name     string
	VersionID     string `json:"VersionId"`
	SecretString  string
	CreatedDate   float64
	DeletionDate  float64
	VersionStages []string
}

// call carries out CreateSecret, DeleteSecret and GetSecretValue.
func (s *secrets) call(operation string, call *awsCall) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := call.Name + call.SecretID
	kept := s.kept[name]
	now := time.Now()
	created := float64(now.Unix())
	answer := secretAnswer{ARN: "arn:aws:secretsmanager:us-east-1:000000000000:secret:" + name, Name: name,
		CreatedDate: created, DeletionDate: created}
	switch {
	case operation == "CreateSecret" && kept != nil:
		return nil, &refusal{http.StatusBadRequest, "ResourceExistsException"}
	case operation == "CreateSecret":
		kept = &keptSecret{value: call.SecretString, seen: now}
		if d := s.world.Dice("secret", name); d.Chance(s.world.scenario.faults.secretUnseen) {
			kept.seen = now.Add(d.Between(0, unseenFor))
		}
		s.kept[name] = kept
	case kept == nil || operation == "GetSecretValue" && kept.seen.After(now):
		return nil, &refusal{http.StatusBadRequest, "ResourceNotFoundException"}
	case kept.deleted, operation == "GetSecretValue" && call.VersionStage == "AWSPREVIOUS":
		return nil, &refusal{http.StatusBadRequest, "InvalidRequestException"}
	case operation == "DeleteSecret":
		kept.deleted = true
	case operation == "GetSecretValue":
		answer.SecretString, answer.VersionID, answer.VersionStages = kept.value, "1", []string{"AWSCURRENT"}
	default:
		return nil, &refusal{http.StatusBadRequest, "InvalidRequestException"}
	}
	return answer, nil
}

// value is what a secret holds.
func (s *secrets) value(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[name].value
}
