package configs

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// The functions here judge one scalar each. They return a problem as their error.

// parseText takes any text that is not empty.
func parseText(v value) (string, error) {
	switch {
	case !v.isText() && v.secret:
		return "", problem{"got a number or a boolean, want text", "put it in quotes"}
	case !v.isText():
		return "", problem{got(v, "text").message, fmt.Sprintf("put it in quotes: %q", v.text)}
	case v.text == "":
		return "", got(v, "text that is not empty")
	case strings.ContainsFunc(v.text, unicode.IsControl) && !v.secret:
		return "", got(v, "text of one line, without control characters")
	}
	return v.text, nil
}

func parseBool(v value) (bool, error) {
	switch {
	case v.text == "true" && (v.from != "" || !v.quoted):
		return true, nil
	case v.text == "false" && (v.from != "" || !v.quoted):
		return false, nil
	}
	p := got(v, "true or false")
	switch strings.ToLower(v.text) {
	case "true", "yes", "on", "y", "1":
		p.hint = "write true"
	case "false", "no", "off", "n", "0":
		p.hint = "write false"
	}
	if v.quoted && v.from == "" && p.hint != "" {
		p.hint += ", without quotes"
	}
	return false, p
}

// parseWhole returns a judge of whole numbers from least to most, which are of the named thing.
func parseWhole(least, most int, what string) func(value) (int, error) {
	return func(v value) (int, error) {
		want := fmt.Sprintf("%s from %d to %d", what, least, most)
		if v.quoted && v.from == "" {
			return 0, problem{got(v, want).message, "leave the quotes out"}
		}
		n, err := strconv.Atoi(v.text)
		if err != nil || n < least || n > most || v.text != strconv.Itoa(n) {
			return 0, got(v, want)
		}
		return n, nil
	}
}

// choice returns a judge of texts out of a few. Key is the path of the key, under which values
// that are not built yet are refused by name.
func choice[T ~string](key string, options ...T) func(value) (T, error) {
	var names []string
	for _, option := range options {
		names = append(names, string(option))
	}
	return func(v value) (T, error) {
		for _, option := range options {
			if v.text == string(option) {
				return option, nil
			}
		}
		if instead, yes := isUnbuilt(key, v.text); yes {
			return "", problem{fmt.Sprintf("%s is not built yet", quote(v.text)), instead}
		}
		return "", problem{got(v, enumerate(names, "or")).message, suggest(v.text, names)}
	}
}

// Names begin with a letter, so that they need no quotes in SQL, YAML or a shell.
var (
	columnPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	groupPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	topicPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

func parseColumnName(v value) (string, error) {
	return matching(v, columnPattern, maxNameLength, "a name of letters, digits and _, not beginning with a digit")
}

func parseTableName(v value) (string, error) {
	if strings.HasPrefix(v.text, "nyala.") {
		return "", problem{got(v, "another name").message, "names that begin with nyala. are those of the system's own tables"}
	}
	return parseName(v)
}

// parseName takes the name of a cluster, a node or a table.
func parseName(v value) (string, error) {
	return matching(v, namePattern, maxNameLength, "a name of letters, digits, _ and -, beginning with a letter or _")
}

// parseGroupName takes the name of a connector or a consumer group.
func parseGroupName(v value) (string, error) {
	return matching(v, groupPattern, maxNameLength, "a name of letters, digits, _, - and dots, not beginning with - or a dot")
}

func parseTopic(v value) (string, error) {
	if v.text == "." || v.text == ".." {
		return "", got(v, "another name: Kafka does not allow it")
	}
	return matching(v, topicPattern, maxTopicLength, "a topic: letters, digits, dots, _ and -")
}

func parseOptionalTopic(v value) (string, error) {
	if v.isText() && v.text == "" {
		return "", nil
	}
	return parseTopic(v)
}

func matching(v value, pattern *regexp.Regexp, most int, want string) (string, error) {
	text, err := parseText(v)
	switch {
	case err != nil && !v.isText() && pattern.MatchString(v.text):
		return "", err
	case err != nil, !pattern.MatchString(text):
		return "", got(v, want)
	case len(text) > most:
		return "", got(v, fmt.Sprintf("at most %d characters", most))
	}
	return text, nil
}

// The examples of addresses in messages.
const (
	peerExample   = "10.0.0.1:7401"
	httpExample   = "10.0.0.1:7481"
	brokerExample = "kafka-1:9092"
)

// parsePeer takes an address that the other nodes can dial.
func parsePeer(v value) (string, error) {
	return parseDialled(v, peerExample, "the other nodes dial this address")
}

// parseBroker takes the address of a Kafka broker.
func parseBroker(v value) (string, error) {
	return parseDialled(v, brokerExample, "the nodes dial this address")
}

func parseDialled(v value, example, why string) (string, error) {
	host, port, err := splitAddress(v, example)
	if err != nil {
		return "", err
	}
	if isWildcard(host) {
		return "", problem{got(v, "host:port such as "+example).message, why + ", so name the host"}
	}
	return net.JoinHostPort(host, port), nil
}

// parseListen takes an address to listen at; the host may be left open.
func parseListen(v value) (string, error) {
	host, port, err := splitAddress(v, httpExample)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

func isWildcard(host string) bool {
	return host == "" || net.ParseIP(host) != nil && net.ParseIP(host).IsUnspecified()
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9._:%-]*$`)

// splitAddress takes host:port with a port in digits, from 1 to 65535.
func splitAddress(v value, example string) (host, port string, err error) {
	want := "host:port such as " + example
	if !v.isText() {
		return "", "", got(v, want)
	}
	if scheme, rest, found := strings.Cut(v.text, "://"); found {
		return "", "", problem{got(v, want).message, fmt.Sprintf("leave out %s://, write %s", scheme, strings.TrimRight(rest, "/"))}
	}
	host, port, splitErr := net.SplitHostPort(v.text)
	switch {
	case splitErr != nil && strings.Count(v.text, ":") > 1 && !strings.Contains(v.text, "["):
		return "", "", problem{got(v, want).message, `an IPv6 address needs brackets, and with them quotes, such as "[::1]:7401"`}
	case splitErr != nil && !strings.Contains(v.text, ":") && v.text != "":
		return "", "", problem{got(v, want).message, "the port is missing"}
	case splitErr != nil, !hostPattern.MatchString(host):
		return "", "", got(v, want)
	}
	n, convErr := strconv.Atoi(port)
	if convErr != nil || n < 1 || n > 65535 || port != strconv.Itoa(n) {
		return "", "", got(v, "host:port with a port from 1 to 65535")
	}
	return host, port, nil
}
