// Command product-mail is the function that works through the mail queue.
package main

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/shared/awsconfig"
	"carillon/shared/environment"
	"carillon/shared/lambdafunction"
	"carillon/shared/product"
	"carillon/shared/product/mail"
	"carillon/shared/product/mailqueue"
)

func main() { lambdafunction.Main(setUp) }

func setUp() (any, error) {
	var env environment.Variables
	mailsTable := env.String("MAILS_TABLE")
	productsTable := env.String("PRODUCTS_TABLE")
	queueURL := env.String("MAIL_QUEUE_URL")
	from := env.String("MAIL_FROM")
	configurationSet := env.String("MAIL_CONFIGURATION_SET")
	config, err := awsconfig.FromEnvironment()
	if err := errors.Join(env.Err(), err); err != nil {
		return nil, err
	}
	mailer := mail.NewMailer(
		product.NewMailStore(dynamodb.NewFromConfig(config), mailsTable, productsTable),
		mailqueue.NewQueue(sqs.NewFromConfig(config), queueURL),
		mail.NewSender(config, from, configurationSet, mail.SendTimeout),
		time.Now,
	)
	return mailer.Handle, nil
}
