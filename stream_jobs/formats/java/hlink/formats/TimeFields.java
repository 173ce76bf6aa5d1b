package hlink.formats;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.VarCharType;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;

/** Replaces the text of times by the times, wherever they are in a row: in nested rows, arrays and maps, too. */
interface TimeFields extends Serializable {
    /** The value with its times read. Rows are changed in place. */
    Object read(Object value);

    /** The type with every time that has a spelling as text. */
    static LogicalType asText(LogicalType type, JsonNode spelling) {
        if (spelling == null) {
            return type;
        }
        switch (type.getTypeRoot()) {
            case TIME_WITHOUT_TIME_ZONE:
            case TIMESTAMP_WITHOUT_TIME_ZONE:
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                return new VarCharType(type.isNullable(), VarCharType.MAX_LENGTH);
            case ROW:
                List<RowType.RowField> fields = new ArrayList<>();
                for (RowType.RowField field : ((RowType) type).getFields()) {
                    LogicalType read = asText(field.getType(), below(spelling, field.getName()));
                    fields.add(new RowType.RowField(field.getName(), read));
                }
                return new RowType(type.isNullable(), fields);
            case ARRAY:
                return new ArrayType(type.isNullable(), asText(((ArrayType) type).getElementType(), spelling));
            case MAP:
                MapType map = (MapType) type;
                return new MapType(type.isNullable(), map.getKeyType(), asText(map.getValueType(), spelling));
            default:
                return type;
        }
    }

    /** What reads the times of that type, or null where there is none. {@code place} names it in messages. */
    static TimeFields of(LogicalType type, JsonNode spelling, String place) {
        if (spelling == null) {
            return null;
        }
        switch (type.getTypeRoot()) {
            case TIME_WITHOUT_TIME_ZONE:
                return value -> Times.timeOfDay(value.toString(), place);
            case TIMESTAMP_WITHOUT_TIME_ZONE:
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                Times times = Times.named(spelling.asText());
                int digits = LogicalTypeChecks.getPrecision(type);
                return value -> times.read(value.toString(), digits, place);
            case ROW:
                return ofRow((RowType) type, spelling, place);
            case ARRAY:
                return ofArray((ArrayType) type, spelling, place);
            case MAP:
                return ofMap((MapType) type, spelling, place);
            default:
                return null;
        }
    }

    private static TimeFields ofRow(RowType type, JsonNode spelling, String place) {
        TimeFields[] fields = new TimeFields[type.getFieldCount()];
        boolean any = false;
        for (int i = 0; i < fields.length; i++) {
            String name = type.getFieldNames().get(i);
            fields[i] = of(type.getTypeAt(i), below(spelling, name), place.isEmpty() ? name : place + "." + name);
            any |= fields[i] != null;
        }
        return !any
                ? null
                : value -> {
                    GenericRowData row = (GenericRowData) value;
                    for (int i = 0; i < fields.length; i++) {
                        if (fields[i] != null && !row.isNullAt(i)) {
                            row.setField(i, fields[i].read(row.getField(i)));
                        }
                    }
                    return row;
                };
    }

    private static TimeFields ofArray(ArrayType type, JsonNode spelling, String place) {
        TimeFields elements = of(type.getElementType(), spelling, place);
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(asText(type.getElementType(), spelling));
        return elements == null ? null : value -> read((ArrayData) value, getter, elements);
    }

    private static TimeFields ofMap(MapType type, JsonNode spelling, String place) {
        TimeFields values = of(type.getValueType(), spelling, place);
        if (values == null) {
            return null;
        }
        if (!type.getKeyType().is(LogicalTypeRoot.VARCHAR)) {
            throw new IllegalArgumentException(place + ": a JSON object has text as keys");
        }
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(asText(type.getValueType(), spelling));
        return value -> {
            MapData map = (MapData) value;
            ArrayData read = read(map.valueArray(), getter, values);
            Map<StringData, Object> found = new HashMap<>();
            for (int i = 0; i < map.size(); i++) {
                ArrayData keys = map.keyArray();
                found.put(keys.getString(i), ((GenericArrayData) read).toObjectArray()[i]);
            }
            return new GenericMapData(found);
        };
    }

    private static GenericArrayData read(ArrayData array, ArrayData.ElementGetter getter, TimeFields elements) {
        Object[] found = new Object[array.size()];
        for (int i = 0; i < found.length; i++) {
            Object element = getter.getElementOrNull(array, i);
            found[i] = element == null ? null : elements.read(element);
        }
        return new GenericArrayData(found);
    }

    private static JsonNode below(JsonNode spelling, String name) {
        return spelling.isTextual() ? spelling : spelling.get(name);
    }
}
