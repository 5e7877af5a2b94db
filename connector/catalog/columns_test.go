package catalog

import (
	"fmt"
	"strings"
	"testing"

	"nyala/offsets"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// wider is s with one more column.
func wider(s *schema.Schema, name string) *schema.Schema {
	next := *s
	next.Version++
	next.Columns = append(s.Columns[:len(s.Columns):len(s.Columns)], schema.Column{
		ID: schema.ColumnID(len(s.Columns) + 1), Name: name, Type: schema.Type{Kind: schema.Int64}, Nullable: true, Since: next.Version,
	})
	return &next
}

// TestChangeOfColumns takes a table with two connectors through a change: what each step needs, and what it leaves.
func TestChangeOfColumns(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	for _, spec := range append(SystemTables(3), events("events", 1, 1), events("other", 1, 1)) {
		r.want(Done, CreateTable{spec})
	}
	r.want(Done, EnsureRange{Table: "events", Value: day(1)})
	for _, name := range []string{"app", "web"} {
		r.want(Done, SetConnector{Name: name, Table: "events", Settings: "a", Desired: Running})
	}
	r.want(Done, SetConnector{Name: "else", Table: "other", Settings: "a", Desired: Running})
	r.want(Done, ChangeSettings{"web", 2, "b"})
	next := wider(events("events", 1, 1).Schema, "extra")
	both := []ChangeSettings{{"app", 2, "a"}, {"web", 2, "b"}}
	r.want(Conflict, ChangeTable{"events", next, both})
	both[1].Version = 3
	r.want(Done, SettleSettings{Connector: "web", Version: 2})

	r.want(TableNotFound, ChangeTable{"none", next, both})
	r.want(Malformed, ChangeTable{schema.DeadLettersTable, wider(schema.DeadLetters(), "extra"), nil})
	r.want(Malformed, ChangeTable{"events", nil, both})
	r.want(Stale, ChangeTable{"events", wider(next, "more"), both})
	r.want(Stale, ChangeTable{"events", next, both[:1]})
	narrow := *next
	narrow.Columns = next.Columns[1:]
	r.want(Malformed, ChangeTable{"events", &narrow, both})
	r.want(Stale, SettleTable{"events", 2, nil})
	r.want(Done, ChangeTable{"events", next, both})
	r.want(Unchanged, ChangeTable{"events", next, both})
	r.want(Conflict, ChangeTable{"events", wider(events("events", 1, 1).Schema, "other"), both})
	r.want(Conflict, ChangeTable{"events", next, []ChangeSettings{{"app", 2, "c"}, {"web", 3, "b"}}})
	r.want(Conflict, ChangeSettings{"app", 2, "c"})
	r.want(Conflict, SettleSettings{Connector: "app", Version: 2})
	r.want(Conflict, SetConnector{Name: "new", Table: "events", Settings: "a", Desired: Running})
	r.want(TableInUse, DropTable{"events"})
	r.want(Done, EnsureRange{Table: "events", Value: day(3)}) // a range from between the two steps
	r.want(Done, EnsureRange{Table: "other", Value: day(3)})

	table, _ := r.Snapshot().Table("events")
	if table.Schema.Version != 1 || table.Newest().Version != 2 {
		t.Errorf("the columns are in force before all tablets have them: version %d, newest %d", table.Schema.Version, table.Newest().Version)
	}
	settled := []SettleSettings{{"app", 2, []Position{{Partition: 1, Next: 7}}}, {"web", 3, []Position{{Next: 9}}}}
	r.want(Stale, SettleTable{"events", 2, settled[:1]})
	r.want(Stale, SettleTable{"events", 3, settled})
	r.want(Done, SettleTable{"events", 2, settled})
	r.want(Unchanged, SettleTable{"events", 2, settled})
	r.want(Stale, ChangeTable{"events", next, both})
	if table, _ = r.Snapshot().Table("events"); !table.Schema.Equal(next) || table.Change != nil {
		t.Errorf("got %+v", table)
	}
	for name, want := range map[string]string{"app": "1:a:1 2:a:2[7]", "web": "1:a:1 2:b:1 3:b:2[9]", "else": "1:a:1"} {
		c := r.connector(name)
		var got []string
		for _, d := range c.Decisions {
			text := fmt.Sprintf("%d:%s:%d", d.Version, d.Settings, d.Schema)
			for _, p := range d.From {
				text += fmt.Sprintf("[%d]", p.Next)
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != want || c.Change != nil {
			t.Errorf("%s: got %s, want %s", name, strings.Join(got, " "), want)
		}
	}
	born := ""
	for _, p := range table.Partitions {
		tablet, _ := r.Snapshot().Tablet(p.Tablets[0])
		born += fmt.Sprintf("%d%v ", tablet.Schema, tablet.Fences)
		if got := table.SchemaAt(tablet.Schema); got.Version != tablet.Schema || len(got.Columns) != 4+int(tablet.Schema) {
			t.Errorf("tablet %d: version %d with %d columns", tablet.ID, got.Version, len(got.Columns))
		}
	}
	if want := fmt.Sprintf("%d%v %d%v ", 1, []offsets.Fence(nil), 2, []offsets.Fence{{Connector: "app", Decision: 2}, {Connector: "web", Decision: 3}}); born != want {
		t.Errorf("tablets are made with %s, want %s", born, want)
	}
	r.want(Done, SetConnector{Name: "new", Table: "events", Settings: "a", Desired: Running})
	if got := r.connector("new").Decision().Schema; got != 2 {
		t.Errorf("a new connector decides under schema version %d, want 2", got)
	}
}

// TestPlanOfColumns appends columns by way of the definition, and lists what is refused.
func TestPlanOfColumns(t *testing.T) {
	r := newReplica(t, vfs.NewMem())
	r.initialise(3)
	spec := func(change func(*schema.Schema)) Wanted {
		s := events("events", 1, 0)
		change(s.Schema)
		return Wanted{Tables: append(SystemTables(3), s), Connectors: []ConnectorSpec{{"app", "events", "a"}, {"old", "events", "b"}}}
	}
	add := func(c schema.Column) func(*schema.Schema) {
		return func(s *schema.Schema) {
			c.ID = schema.ColumnID(len(s.Columns) + 1)
			s.Columns = append(s.Columns, c)
		}
	}
	number := schema.Type{Kind: schema.Int64}
	r.carryOut(spec(func(*schema.Schema) {}), 0)

	w := spec(add(schema.Column{Name: "extra", Type: number, Default: &schema.Value{Int: 5}}))
	w.Connectors = []ConnectorSpec{{"app", "events", "c"}, {"new", "events", "a"}} // "old" is no longer there, and goes on as it is
	commands, errs := Plan(w, r.Snapshot(), 0)
	if len(errs) > 0 || len(commands) != 1 {
		t.Fatalf("got %+v, %v", commands, errs)
	}
	c, ok := commands[0].(ChangeTable)
	if !ok || c.Schema.Version != 2 || c.Schema.Columns[5].Since != 2 || c.Schema.Columns[5].ID != 6 || fmt.Sprint(c.Connectors) != "[{app 2 c} {old 2 b}]" {
		t.Errorf("got %+v", commands[0])
	}
	r.want(Done, c)
	if commands, errs = Plan(w, r.Snapshot(), 0); len(commands)+len(errs) > 0 {
		t.Errorf("while it changes: %+v, %v", commands, errs)
	}
	r.want(Done, SettleTable{"events", 2, []SettleSettings{{"app", 2, nil}, {"old", 2, nil}}})
	if got := r.carryOut(w, 0); len(got) != 1 || !strings.HasPrefix(got[0], "set_connector {Name:new") {
		t.Errorf("afterwards: %v", got)
	}

	var text strings.Builder
	for _, change := range []func(*schema.Schema){
		func(*schema.Schema) {}, // the definition of before
		add(schema.Column{Name: "extra", Type: number, Nullable: true}),
		add(schema.Column{Name: "other", Type: number, Default: &schema.Value{Int: 5}}),
		func(s *schema.Schema) {
			add(schema.Column{Name: "more", Type: number, Nullable: true})(s)
			add(schema.Column{Name: "extra", Type: number, Default: &schema.Value{Int: 5}})(s)
		},
		func(s *schema.Schema) {
			add(schema.Column{Name: "extra", Type: number, Default: &schema.Value{Int: 5}})(s)
			add(schema.Column{Name: "more", Type: number})(s)
		},
		func(s *schema.Schema) {
			add(schema.Column{Name: "extra", Type: number, Default: &schema.Value{Int: 5}})(s)
			add(schema.Column{Name: "more", Type: number, Nullable: true})(s)
			s.Key = append(s.Key, 6)
		},
		func(s *schema.Schema) {
			add(schema.Column{Name: "extra", Type: number, Default: &schema.Value{Int: 5}})(s)
			add(schema.Column{Name: "more", Type: number, Nullable: true})(s)
			s.Columns[4].Type.Kind = schema.Float32
		},
	} {
		commands, errs := Plan(spec(change), r.Snapshot(), 0)
		fmt.Fprintf(&text, "%v\n", errs)
		for _, c := range commands {
			if c.Kind() != KindChangeSettings {
				t.Errorf("a definition that is refused gave %+v", c)
			}
		}
	}
	wide := SystemTables(3)
	wide[1].Schema = wider(wide[1].Schema, "extra")
	_, errs = Plan(Wanted{Tables: wide}, r.Snapshot(), 0)
	fmt.Fprintf(&text, "%v\n", errs)
	golden(t, "columns", text.String())
}
