package wire

import (
	"reflect"
	"testing"
)

// Whatever a question of a report can say, it says to the query that is asked.
func TestNothingThatAReportAsksIsLost(t *testing.T) {
	of := reflect.TypeFor[ReportQuestion]()
	for i := range of.NumField() {
		question := reflect.New(of).Elem()
		question.Field(i).Set(something(of.Field(i).Type))
		query := question.Interface().(ReportQuestion).Query()
		got := reflect.ValueOf(query).FieldByName(of.Field(i).Name)
		if !got.IsValid() || !reflect.DeepEqual(got.Interface(), question.Field(i).Interface()) {
			t.Errorf("%s is lost", of.Field(i).Name)
		}
	}
}

// something is a value of a type that is not its zero.
func something(of reflect.Type) reflect.Value {
	v := reflect.New(of).Elem()
	switch of.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(of, 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(of))
	case reflect.Pointer:
		v.Set(reflect.New(of.Elem()))
	}
	return v
}
