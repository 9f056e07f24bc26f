package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/BurntSushi/toml"
)

// takeTables makes a document of each table of the key k. above are the keys that
// stand outside of tables.
func (d *document) takeTables(md toml.MetaData, prims map[string]toml.Primitive, text string, k key, above []key) error {
	prim, there := prims[k.name]
	if !there {
		return nil
	}
	var tables []map[string]toml.Primitive
	var err error
	if k.kind == "table" {
		if _, is := d.values[k.name].(map[string]any); !is {
			err := wrongType(d.values[k.name], "a table")
			if _, list := d.values[k.name].([]map[string]any); list {
				err = errors.New("a list of tables where one belongs")
			}
			return complaint(d.where(k.name), k.name, err)
		}
		tables = make([]map[string]toml.Primitive, 1)
		err = md.PrimitiveDecode(prim, &tables[0])
	} else {
		if _, list := d.values[k.name].([]map[string]any); !list {
			return complaint(d.where(k.name), k.name, wrongType(d.values[k.name], "a list of tables"))
		}
		err = md.PrimitiveDecode(prim, &tables)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", d.path, k.name, err)
	}
	for _, prims := range tables {
		table := &document{path: d.path, values: map[string]any{}, lines: map[string]int{}}
		if err := table.take(md, prims, text); err != nil {
			return err
		}
		for name := range table.values {
			if !known(k.tableKeys(), name) && known(above, name) {
				return fmt.Errorf("%s: stands in a %s table, which has no such key; write it above the first table", table.where(name), k.heading())
			}
		}
		if err := table.checkKnown(k.tableKeys()); err != nil {
			return err
		}
		if d.tables == nil {
			d.tables = map[string][]*document{}
		}
		d.tables[k.name] = append(d.tables[k.name], table)
	}
	return nil
}

// heading is how a table of the key k begins.
func (k key) heading() string {
	if k.kind == "table" {
		return "[" + k.name + "]"
	}
	return "[[" + k.name + "]]"
}

// fillTables sets the field to a struct for each of the tables, which start as their
// defaults.
func (k key) fillTables(tables []*document) error {
	if s, ok := k.field.Addr().Interface().(*S3); ok {
		return tables[0].fill(keysOf(s), &s.origins)
	}
	list, ok := k.field.Addr().Interface().(*[]Watch)
	if !ok {
		panic("config: no tables for " + k.field.Type().String())
	}
	*list = nil
	for _, table := range tables {
		w := DefaultWatch()
		w.table = table.path
		if len(table.lines) > 0 {
			w.table = fmt.Sprintf("%s:%d", table.path, slices.Min(slices.Collect(maps.Values(table.lines))))
		}
		if err := table.fill(keysOf(&w), &w.origins); err != nil {
			return err
		}
		*list = append(*list, w)
	}
	return nil
}

// tableKeys lists the settings of one table of a key of tables.
func (k key) tableKeys() []key {
	if k.kind == "table" {
		return keysOf(k.field.Addr().Interface())
	}
	return keysOf(&Watch{})
}

func (k key) isTables() bool { return k.kind == "tables" || k.kind == "table" }

// validateEach returns the first error of the tables.
func validateEach(list []Watch) error {
	for i := range list {
		if err := list[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

// known reports whether a key is among keys.
func known(keys []key, name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return k.name == name })
}
