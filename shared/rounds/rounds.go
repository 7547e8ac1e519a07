// Package rounds bounds how often a job goes round: how often the function that works through a queue sends it on to
// that same queue. It stands in for Lambda's own guard, which ends every such chain after 16 rounds and so is off for
// those who wait by sending a job on.
package rounds

import "errors"

// Max is how many rounds a job may go. No honest job comes near it: only one that goes round without waiting does, by
// a fault of ours.
//
// Who is out of luck longest is an OTT message, at most 7 days. Its waits double to 15 minutes in 10 rounds and last
// 7.5 at least from then on, half of them being jitter: 1,344 rounds if each were the shortest, and 900 as it falls
// out, for they last 11.25 in the mean. A wait costs a second round where the job comes a moment early, or while
// another job of the same message is at it: 1,800. A mail is given up after 24 hours: 8 rounds until its waits are
// that long, and 192 at most from then on.
const Max = 2000

// ErrTooMany is the error of a job that is not sent on any more.
var ErrTooMany = errors.New("rounds: the job has gone round too often, it is not sent on")

// Count is how many rounds a job has gone: a member of the job, a JSON number. A job that has none, as those of former
// releases, has gone none.
type Count int

// Next returns the count of the job that is sent on in this one's place. It returns ErrTooMany for one that has gone
// Max rounds.
func (c Count) Next() (Count, error) {
	if c >= Max {
		return c, ErrTooMany
	}
	return c + 1, nil
}
