package configs

import "testing"

func TestNearest(t *testing.T) {
	columns := []string{"tenant", "event_time", "event_id", "url"}
	for _, c := range []struct {
		written string
		known   []string
		want    string
	}{
		{"event_tim", columns, "event_time"},
		{"eventTime", columns, "event_time"},
		{"EVENT-ID", columns, "event_id"},
		{"evnet_id", columns, "event_id"},
		{"tenent", columns, "tenant"},
		{"uri", columns, "url"},
		{"colour", columns, ""},
		{"", columns, ""},
		{"x", columns, ""},
		{"varchar", simpleKinds, "string"},
		{"int23", simpleKinds, "int32"},
		{"Timestmap", simpleKinds, "timestamp"},
		{"geometry", simpleKinds, ""},
		{"bootstrap.servers", keys["kafka"], "brokers"},
		{"replication-factor", keys["cluster"], ""},
		{"replication_factor", keys["cluster"], "replicas"},
		{"a", nil, ""},
	} {
		if got := nearest(c.written, c.known); got != c.want {
			t.Errorf("%q among %v: got %q, want %q", c.written, c.known, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "abcd", 1}, {"abc", "axc", 1}, {"ab", "ba", 1}, {"abcd", "badc", 2}, {"kitten", "sitting", 3}, {"", "abcdefghijkl", 10}} {
		if got := distance([]rune(c.a), []rune(c.b), 10); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance([]rune(c.b), []rune(c.a), 10); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestSuggestOrList(t *testing.T) {
	many := make([]string, maxListed+3)
	for i := range many {
		many[i] = string(rune('a' + i))
	}
	for _, c := range []struct {
		written string
		known   []string
		want    string
	}{
		{"event", []string{"events"}, `did you mean "events"?`},
		{"other", []string{"events"}, `there is only "events"`},
		{"other", []string{"a1", "b2", "c3"}, "the tables are a1, b2 and c3"},
		{"other", nil, ""},
		{"other", many, "the tables are a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p and 3 more"},
	} {
		if got := suggestOrList(c.written, "the tables", c.known); got != c.want {
			t.Errorf("%q: got %q, want %q", c.written, got, c.want)
		}
	}
}
