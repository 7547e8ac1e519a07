// Command product-mail is the function that works through the mail queue.
package main

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/lambdafunction"
	"carillon/shared/product"
	"carillon/shared/product/mail"
	"carillon/shared/product/mailqueue"
)

func main() { lambdafunction.Main(setUp) }

func setUp(s lambdafunction.Setup) any {
	env, config := s.Env, s.Config
	mailsTable := env.String("MAILS_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	queueURL := env.String("MAIL_QUEUE_URL")
	from := env.String("MAIL_FROM")
	configurationSet := env.String("MAIL_CONFIGURATION_SET")
	mailer := mail.NewMailer(
		product.NewMailStore(dynamodb.NewFromConfig(config), mailsTable, productsTable),
		mailqueue.NewQueue(sqs.NewFromConfig(config), queueURL),
		mail.NewSender(config, from, configurationSet, mail.SendTimeout),
		time.Now,
	)
	return mailer.Handle
}
