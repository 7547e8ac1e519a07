// Command product-mail-event is the function that works through the queue of what SES tells of mails.
package main

import (
	"carillon/shared/clock"
	"carillon/shared/lambdafunction"
	"carillon/shared/product/mailevent"
	"carillon/shared/product/store"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	return mailevent.NewHandler(store.OpenMails(s.Env, s.Config), clock.System{}, s.Log).Handle
}
