package configs

// unbuilt is the one list of what the file may say one day and what Nyala cannot do yet.
// Everything in it is refused by name, never ignored. Whoever builds a feature deletes its
// line here, and reads the key, or adds the value to its choices.
//
// An entry without a value refuses the key itself, whatever it holds.
var unbuilt = []struct{ key, value, instead string }{
	{"exports", "", "run nyala export from a timer, and leave the section out"},
	{"tables[].range.retain", "", "old ranges are kept, leave the key out"},
	{"connectors[].format", "avro", "only json is read"},
	{"connectors[].format", "protobuf", "only json is read"},
	{"connectors[].format", "csv", "only json is read"},
	{"connectors[].format", "raw", "only json is read"},
	{"connectors[].format", "debezium-json", "only json is read"},
	{"connectors[].format", "debezium-avro", "only json is read"},
	{"connectors[].on_unknown_field", "evolve", "use ignore or dead_letter"},
}

// isUnbuilt reports whether the key, or this value of it, is refused, and what to do instead.
func isUnbuilt(key, value string) (instead string, yes bool) {
	for _, u := range unbuilt {
		if u.key == key && u.value == value {
			return u.instead, true
		}
	}
	return "", false
}
