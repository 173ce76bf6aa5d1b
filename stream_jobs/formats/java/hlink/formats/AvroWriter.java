package hlink.formats;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.avro.shaded.org.apache.avro.Schema;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericData;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumWriter;
import org.apache.flink.avro.shaded.org.apache.avro.generic.IndexedRecord;
import org.apache.flink.avro.shaded.org.apache.avro.io.BinaryEncoder;
import org.apache.flink.avro.shaded.org.apache.avro.io.EncoderFactory;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.RowType;

/** Writes rows as records of a given schema: columns by their names, fields that the table lacks by their defaults. */
final class AvroWriter implements SerializationSchema<RowData> {
    private static final long serialVersionUID = 1L;

    private final RowType columns;
    private final String schemaText;

    private transient Schema schema;
    private transient GenericDatumWriter<IndexedRecord> writer;
    private transient BinaryEncoder encoder;
    private transient ByteArrayOutputStream bytes;
    private transient Map<RowType, RowData.FieldGetter[]> getters;

    AvroWriter(RowType columns, String schemaText) {
        this.columns = columns;
        this.schemaText = schemaText;
        check(new Schema.Parser().parse(schemaText), columns, "");
    }

    @Override
    public void open(InitializationContext context) {
        schema = new Schema.Parser().parse(schemaText);
        writer = new GenericDatumWriter<>(schema);
        bytes = new ByteArrayOutputStream();
        getters = new IdentityHashMap<>();
    }

    @Override
    public byte[] serialize(RowData row) {
        bytes.reset();
        encoder = EncoderFactory.get().binaryEncoder(bytes, encoder);
        try {
            writer.write(record(row, schema, columns, ""), encoder);
            encoder.flush();
        } catch (IOException e) {
            throw new IllegalStateException("a row cannot be written as Avro", e);
        }
        return bytes.toByteArray();
    }

    /** Whether there is a column, or a default, for each field; when the job is planned. */
    private static void check(Schema schema, LogicalType type, String place) {
        Schema wanted = present(schema);
        if (wanted.getType() == Schema.Type.ARRAY) {
            check(wanted.getElementType(), ((ArrayType) type).getElementType(), place);
        } else if (wanted.getType() == Schema.Type.MAP) {
            check(wanted.getValueType(), ((MapType) type).getValueType(), place);
        } else if (wanted.getType() == Schema.Type.RECORD) {
            RowType row = (RowType) type;
            for (Schema.Field field : wanted.getFields()) {
                int index = row.getFieldIndex(field.name());
                if (index >= 0) {
                    check(field.schema(), row.getTypeAt(index), place + field.name() + ".");
                } else if (!field.hasDefaultValue()) {
                    throw new IllegalArgumentException(
                            "the Avro schema's field " + place + field.name() + " has no default, and no column fills it");
                }
            }
        }
    }

    private IndexedRecord record(RowData row, Schema schema, RowType type, String place) {
        RowData.FieldGetter[] fields = getters.computeIfAbsent(type, AvroWriter::getters);
        GenericData.Record record = new GenericData.Record(schema);
        for (Schema.Field field : schema.getFields()) {
            int index = type.getFieldIndex(field.name());
            if (index < 0) {
                record.put(field.pos(), GenericData.get().getDefaultValue(field));
            } else {
                Object given = fields[index].getFieldOrNull(row);
                record.put(field.pos(), value(given, field.schema(), type.getTypeAt(index), place + field.name()));
            }
        }
        return record;
    }

    private static RowData.FieldGetter[] getters(RowType type) {
        RowData.FieldGetter[] found = new RowData.FieldGetter[type.getFieldCount()];
        for (int i = 0; i < found.length; i++) {
            found[i] = RowData.createFieldGetter(type.getTypeAt(i), i);
        }
        return found;
    }

    private Object value(Object value, Schema schema, LogicalType type, String place) {
        if (value == null) {
            if (schema.getType() != Schema.Type.NULL && !schema.isNullable()) {
                throw new IllegalArgumentException("column " + place + " is null, and the Avro schema allows no null there");
            }
            return null;
        }
        Schema wanted = present(schema);
        switch (wanted.getType()) {
            case STRING:
                return value.toString();
            case ENUM:
                if (!wanted.hasEnumSymbol(value.toString())) {
                    throw new IllegalArgumentException(
                            "column " + place + ": '" + value + "' is not one of " + wanted.getEnumSymbols());
                }
                return new GenericData.EnumSymbol(wanted, value.toString());
            case BYTES:
                return ByteBuffer.wrap(bytes(value));
            case FIXED:
                return new GenericData.Fixed(wanted, fixed(value, wanted.getFixedSize(), place));
            case INT:
                return value;
            case LONG:
                return number(value, wanted.getProp("logicalType"));
            case ARRAY:
                ArrayData array = (ArrayData) value;
                return list(array, wanted.getElementType(), ((ArrayType) type).getElementType(), place);
            case MAP:
                MapData map = (MapData) value;
                LogicalType values = ((MapType) type).getValueType();
                List<Object> written = list(map.valueArray(), wanted.getValueType(), values, place);
                Map<String, Object> found = new HashMap<>();
                for (int i = 0; i < map.size(); i++) {
                    found.put(map.keyArray().getString(i).toString(), written.get(i));
                }
                return found;
            case RECORD:
                return record((RowData) value, wanted, (RowType) type, place + ".");
            default:
                return value;
        }
    }

    private List<Object> list(ArrayData array, Schema schema, LogicalType type, String place) {
        ArrayData.ElementGetter getter = ArrayData.createElementGetter(type);
        List<Object> found = new ArrayList<>(array.size());
        for (int i = 0; i < array.size(); i++) {
            found.add(value(getter.getElementOrNull(array, i), schema, type, place));
        }
        return found;
    }

    private static Object number(Object value, String logical) {
        if (value instanceof TimestampData) {
            TimestampData time = (TimestampData) value;
            return logical.endsWith("-micros")
                    ? time.getMillisecond() * 1_000 + time.getNanoOfMillisecond() / 1_000
                    : time.getMillisecond();
        }
        return value instanceof Integer ? (Integer) value * 1_000L : value;
    }

    private static byte[] bytes(Object value) {
        return value instanceof DecimalData ? ((DecimalData) value).toUnscaledBytes() : (byte[]) value;
    }

    private static byte[] fixed(Object value, int size, String place) {
        byte[] given = bytes(value);
        if (given.length == size) {
            return given;
        }
        if (!(value instanceof DecimalData) || given.length > size) {
            throw new IllegalArgumentException("column " + place + " has " + given.length + " bytes, the Avro schema " + size);
        }
        byte[] padded = new byte[size];
        Arrays.fill(padded, 0, size - given.length, (byte) (given[0] < 0 ? -1 : 0));
        System.arraycopy(given, 0, padded, size - given.length, given.length);
        return padded;
    }

    /** The branch of a union that is not null, or the schema itself. */
    static Schema present(Schema schema) {
        if (schema.getType() != Schema.Type.UNION) {
            return schema;
        }
        List<Schema> branches = schema.getTypes();
        return branches.get(branches.get(0).getType() == Schema.Type.NULL && branches.size() > 1 ? 1 : 0);
    }
}
