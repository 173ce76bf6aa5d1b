package hlink.formats;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.avro.shaded.org.apache.avro.Schema;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumReader;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericFixed;
import org.apache.flink.avro.shaded.org.apache.avro.generic.IndexedRecord;
import org.apache.flink.avro.shaded.org.apache.avro.io.BinaryDecoder;
import org.apache.flink.avro.shaded.org.apache.avro.io.DecoderFactory;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;

/** Avro's own reader from the writer's schema to the fields that the table has, in the table's order. */
final class AvroReader implements MessageReader {
    private static final long serialVersionUID = 1L;

    private final RowType columns;
    private final String writerSchema;

    private transient Schema writer;
    private transient Schema schema;
    private transient GenericDatumReader<IndexedRecord> reader;
    private transient BinaryDecoder decoder;

    AvroReader(RowType columns, String writerSchema) {
        this.columns = columns;
        this.writerSchema = writerSchema;
        // Here, so that a column that the schema lacks is told of when the job is planned.
        wanted(new Schema.Parser().parse(writerSchema), columns, "");
    }

    @Override
    public void open(DeserializationSchema.InitializationContext context) {
        writer = new Schema.Parser().parse(writerSchema);
        schema = wanted(writer, columns, "");
        reader = new GenericDatumReader<>(writer, schema);
    }

    @Override
    public void read(byte[] message, Consumer<GenericRowData> rows) throws Exception {
        // Over it once without making anything: the reader allocates what a length says, in a torn message gigabytes.
        decoder = DecoderFactory.get().binaryDecoder(message, decoder);
        GenericDatumReader.skip(writer, decoder);
        if (!decoder.isEnd()) {
            throw new IllegalArgumentException("bytes are left over: it was written with another schema");
        }
        decoder = DecoderFactory.get().binaryDecoder(message, decoder);
        rows.accept(row(reader.read(null, decoder), schema, columns));
    }

    /** The schema of what the table has of the writer's fields. */
    private static Schema wanted(Schema writer, LogicalType type, String place) {
        switch (writer.getType()) {
            case UNION:
                List<Schema> branches = new ArrayList<>();
                for (Schema branch : writer.getTypes()) {
                    branches.add(branch.getType() == Schema.Type.NULL ? branch : wanted(branch, type, place));
                }
                return Schema.createUnion(branches);
            case ARRAY:
                return Schema.createArray(wanted(writer.getElementType(), ((ArrayType) type).getElementType(), place));
            case MAP:
                return Schema.createMap(wanted(writer.getValueType(), ((MapType) type).getValueType(), place));
            case RECORD:
                List<Schema.Field> fields = new ArrayList<>();
                for (RowType.RowField field : ((RowType) type).getFields()) {
                    Schema.Field written = writer.getField(field.getName());
                    String below = place + "." + field.getName();
                    if (written == null) {
                        throw new IllegalArgumentException("the Avro schema has no field " + below.substring(1));
                    }
                    fields.add(new Schema.Field(field.getName(), wanted(written.schema(), field.getType(), below)));
                }
                return Schema.createRecord(writer.getName(), null, writer.getNamespace(), false, fields);
            default:
                return writer;
        }
    }

    private static GenericRowData row(IndexedRecord record, Schema schema, RowType type) {
        GenericRowData row = new GenericRowData(type.getFieldCount());
        for (int i = 0; i < row.getArity(); i++) {
            row.setField(i, value(record.get(i), schema.getFields().get(i).schema(), type.getTypeAt(i)));
        }
        return row;
    }

    private static Object value(Object value, Schema schema, LogicalType type) {
        if (value == null) {
            return null;
        }
        if (schema.getType() == Schema.Type.UNION) {
            return value(value, AvroWriter.present(schema), type);
        }
        switch (type.getTypeRoot()) {
            case CHAR:
            case VARCHAR:
                return StringData.fromString(value.toString());
            case BINARY:
            case VARBINARY:
                return bytes(value);
            case DECIMAL:
                return decimal(new BigInteger(bytes(value)), (DecimalType) type);
            case TIME_WITHOUT_TIME_ZONE:
                return value instanceof Long ? (int) ((Long) value / 1_000) : value;
            case TIMESTAMP_WITHOUT_TIME_ZONE:
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                long unit = schema.getProp("logicalType").endsWith("-micros") ? 1_000 : 1_000_000;
                return Times.timestamp((Long) value, unit, LogicalTypeChecks.getPrecision(type));
            case ROW:
                return row((IndexedRecord) value, schema, (RowType) type);
            case ARRAY:
                List<?> elements = (List<?>) value;
                Object[] array = new Object[elements.size()];
                for (int i = 0; i < array.length; i++) {
                    array[i] = value(elements.get(i), schema.getElementType(), ((ArrayType) type).getElementType());
                }
                return new GenericArrayData(array);
            case MAP:
                Map<StringData, Object> map = new HashMap<>();
                ((Map<?, ?>) value)
                        .forEach(
                                (key, one) ->
                                        map.put(
                                                StringData.fromString(key.toString()),
                                                value(one, schema.getValueType(), ((MapType) type).getValueType())));
                return new GenericMapData(map);
            default:
                return value;
        }
    }

    private static byte[] bytes(Object value) {
        if (value instanceof GenericFixed) {
            return ((GenericFixed) value).bytes();
        }
        ByteBuffer buffer = ((ByteBuffer) value).duplicate();
        byte[] found = new byte[buffer.remaining()];
        buffer.get(found);
        return found;
    }

    private static DecimalData decimal(BigInteger unscaled, DecimalType type) {
        BigDecimal number = new BigDecimal(unscaled, type.getScale());
        DecimalData found = DecimalData.fromBigDecimal(number, type.getPrecision(), type.getScale());
        if (found == null) {
            throw new IllegalArgumentException(number + " does not fit into " + type.asSummaryString());
        }
        return found;
    }
}
