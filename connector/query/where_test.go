package query

import (
	"fmt"
	"testing"
)

func TestParseCondition(t *testing.T) {
	for text, want := range map[string]string{
		"tenant = 7":                    "{tenant = [7]}",
		"tenant=7":                      "{tenant = [7]}",
		"  a_b.c <>  'x y' ":            "{a_b.c != [x y]}",
		"t >= 2026-01-02T03:04:05Z":     "{t >= [2026-01-02T03:04:05Z]}",
		"s = 'it''s'":                   "{s = [it's]}",
		"s = ''":                        "{s = []}",
		"v IS  NOT null":                "{v is not null []}",
		"v is null":                     "{v is null []}",
		"c in ('DE','F,R', x)":          "{c in [DE F,R x]}",
		"c IN(1,2)":                     "{c in [1 2]}",
		"x < -0.5":                      "{x < [-0.5]}",
		"":                              "error",
		"tenant":                        "error",
		"tenant = ":                     "error",
		"= 7":                           "error",
		"tenant == 7 8":                 "error",
		"s = 'open":                     "error",
		"c in (1,":                      "error",
		"c in ()":                       "error",
		"tenant = 7; drop table events": "error",
	} {
		got, err := ParseCondition(text)
		s := fmt.Sprint(got)
		if err != nil {
			s = "error"
		}
		if s != want {
			t.Errorf("%q: got %s (%v), want %s", text, s, err, want)
		}
	}
}
