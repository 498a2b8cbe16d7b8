// Reads events from standard input, one JSON object a line, and checks each by its schema.
//
//	tickbridge tail trade,gap | go run consumer.go ../../schemas
//	kcat -C -b localhost:9092 -t binance.spot.trade -u | go run consumer.go ../../schemas
//
// Prices and volumes are decimal numbers as text: big.Rat keeps every digit, a float64 does not.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
)

// Schema has the keywords of JSON Schema that the schemas use.
type Schema struct {
	Type        string            `json:"type"`
	Const       any               `json:"const"`
	Enum        []any             `json:"enum"`
	Pattern     string            `json:"pattern"`
	AnyOf       []Schema          `json:"anyOf"`
	Required    []string          `json:"required"`
	Properties  map[string]Schema `json:"properties"`
	Items       *Schema           `json:"items"`
	PrefixItems []Schema          `json:"prefixItems"`
}

// Seen counts what has come.
type Seen struct {
	Events  int    `json:"events"`
	Invalid int    `json:"invalid"`
	Missing int64  `json:"missing"`
	Volume  string `json:"volume"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: consumer.go FOLDER_OF_SCHEMAS < events")
		os.Exit(2)
	}
	seen, err := consume(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(seen)
	if seen.Invalid > 0 {
		os.Exit(1)
	}
}

func consume(folder string) (Seen, error) {
	seen, volume := Seen{}, new(big.Rat)
	schemas, lastIDs := map[string]Schema{}, map[string]int64{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var event map[string]any
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.UseNumber() // a float64 would lose digits of large ids
		if err := decoder.Decode(&event); err != nil {
			return seen, err
		}
		messageType, _ := event["message_type"].(string)
		if _, known := schemas[messageType]; !known {
			schema, err := read(filepath.Join(folder, filepath.Base(messageType)+".json"))
			if err != nil {
				return seen, err
			}
			schemas[messageType] = schema
		}
		seen.Events++
		if wrong := fault(event, schemas[messageType], ""); wrong != "" {
			seen.Invalid++
			fmt.Fprintln(os.Stderr, "not a", messageType+":", wrong)
			continue
		}
		if messageType == "trade" {
			amount, _ := new(big.Rat).SetString(event["volume"].(string))
			volume.Add(volume, amount)
			symbol := event["symbol"].(string)
			id, _ := event["trade_id"].(json.Number).Int64()
			if last, known := lastIDs[symbol]; known && id > last+1 {
				seen.Missing += id - last - 1
			}
			lastIDs[symbol] = id
		}
	}
	seen.Volume = volume.FloatString(18)
	return seen, lines.Err()
}

func read(path string) (Schema, error) {
	var schema Schema
	text, err := os.ReadFile(path)
	if err != nil {
		return schema, err
	}
	return schema, json.Unmarshal(text, &schema)
}

// fault returns what is wrong with a value, or an empty text.
func fault(value any, schema Schema, path string) string {
	if len(schema.AnyOf) > 0 {
		for _, each := range schema.AnyOf {
			if fault(value, each, path) == "" {
				return ""
			}
		}
		return path + " is none of the types allowed"
	}
	if schema.Type != "" && schema.Type != typeOf(value) {
		return fmt.Sprintf("%s is %s", path, typeOf(value))
	}
	if schema.Const != nil && schema.Const != value {
		return fmt.Sprintf("%s is not %v", path, schema.Const)
	}
	if schema.Enum != nil && !contains(schema.Enum, value) {
		return fmt.Sprintf("%s is none of %v", path, schema.Enum)
	}
	text, isText := value.(string)
	if schema.Pattern != "" && isText && !regexp.MustCompile(schema.Pattern).MatchString(text) {
		return fmt.Sprintf("%s does not match %s", path, schema.Pattern)
	}
	object, _ := value.(map[string]any)
	for _, name := range schema.Required {
		if _, there := object[name]; !there {
			return fmt.Sprintf("%s/%s is missing", path, name)
		}
	}
	for name, of := range schema.Properties {
		if field, there := object[name]; there {
			if wrong := fault(field, of, path+"/"+name); wrong != "" {
				return wrong
			}
		}
	}
	items, _ := value.([]any)
	for place, item := range items {
		of := Schema{}
		if place < len(schema.PrefixItems) {
			of = schema.PrefixItems[place]
		} else if schema.Items != nil {
			of = *schema.Items
		}
		if wrong := fault(item, of, fmt.Sprintf("%s/%d", path, place)); wrong != "" {
			return wrong
		}
	}
	return ""
}

func typeOf(value any) string {
	switch each := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case json.Number:
		if _, err := each.Int64(); err == nil {
			return "integer"
		}
		return "number"
	}
	return "unknown"
}

func contains(values []any, value any) bool {
	for _, each := range values {
		if each == value {
			return true
		}
	}
	return false
}
