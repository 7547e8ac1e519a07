// Command product-mail is the function that works through the mail queue.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/lambdafunction"
	"carillon/shared/product/mail"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/store"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	mailer := mail.NewMailer(
		store.OpenMails(s.Env, s.Config),
		mailqueue.OpenQueue(s.Env, s.Config),
		mail.OpenSender(s.Env, s.Config),
		clock.System{},
		s.Log,
	)
	return mailer.Handle
}
