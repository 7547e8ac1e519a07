package template

// ConfigurationSet is an AWS::SES::ConfigurationSet.
type ConfigurationSet struct {
	LogicalID string
	Name      string
	// EventTypes are what SES publishes of the set's mails to the default event bus, as CloudFormation spells them:
	// send, reject, bounce, complaint, delivery, renderingFailure and so on.
	EventTypes []string
}

// ConfigurationSets returns the sets that this deployment has, in the template's order, each with what its event
// destinations want.
func (t *Template) ConfigurationSets() ([]ConfigurationSet, error) {
	resources, err := t.live(typeConfigurationSet)
	if err != nil {
		return nil, err
	}
	wanted, err := t.mailEvents()
	if err != nil {
		return nil, err
	}
	var sets []ConfigurationSet
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, "Name")
		set := ConfigurationSet{
			LogicalID: resource.id,
			Name:      r.text("Name", r.properties["Name"], t.generatedName(resource.id)),
		}
		if r.err != nil {
			return nil, r.err
		}
		set.EventTypes = wanted[set.Name]
		sets = append(sets, set)
	}
	return sets, nil
}

// mailEvents reads the event destinations: the event types by the set's name.
func (t *Template) mailEvents() (map[string][]string, error) {
	resources, err := t.live(typeMailEventDestination)
	if err != nil {
		return nil, err
	}
	types := map[string][]string{}
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, "ConfigurationSetName", "EventDestination")
		set := r.text("ConfigurationSetName", r.properties["ConfigurationSetName"], "")
		destination := r.object("EventDestination", r.properties["EventDestination"])
		r.only(
			resource.id+".EventDestination",
			destination,
			"Name",
			"Enabled",
			"MatchingEventTypes",
			"EventBridgeDestination",
		)
		bus := r.object("EventBridgeDestination", destination["EventBridgeDestination"])
		r.only(resource.id+".EventBridgeDestination", bus, "EventBusArn")
		if want := "arn:aws:events:" + t.options.Region + ":" + t.options.AccountID + ":event-bus/" + DefaultBus; text(
			bus["EventBusArn"],
		) != want {
			r.fail("%s: SES publishes to %s alone", resource.id, want)
		}
		matching, ok := stringsOf(destination["MatchingEventTypes"])
		if !ok {
			r.fail("%s: MatchingEventTypes must be a list of strings", resource.id)
		}
		if r.boolean("Enabled", destination["Enabled"], true) {
			types[set] = append(types[set], matching...)
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return types, nil
}
