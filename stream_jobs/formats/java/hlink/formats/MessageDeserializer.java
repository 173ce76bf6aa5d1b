package hlink.formats;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.util.Collector;

/**
 * Reads messages, counts them, and does with one that cannot be read what the table says.
 *
 * <p>A message counts once, whole: either all its rows go on or none does. A message without a value is no message.
 */
final class MessageDeserializer implements DeserializationSchema<RowData> {
    static final String ERROR = "error";
    static final String RAW = "raw";

    private static final long serialVersionUID = 1L;
    private static final int SHOWN_BYTES = 500;

    private final MessageReader reader;
    private final MessageFormatFactory.OnError onError;
    private final int columns;
    private final String[] metadata;
    private final TypeInformation<RowData> type;

    private transient Counter parsed;
    private transient Counter failed;
    private transient List<GenericRowData> rows;

    MessageDeserializer(
            MessageReader reader,
            MessageFormatFactory.OnError onError,
            int columns,
            String[] metadata,
            TypeInformation<RowData> type) {
        this.reader = reader;
        this.onError = onError;
        this.columns = columns;
        this.metadata = metadata;
        this.type = type;
    }

    @Override
    public void open(InitializationContext context) throws Exception {
        MetricGroup metrics = context.getMetricGroup();
        parsed = metrics.counter("hlinkParsed");
        failed = metrics.counter("hlinkFailed");
        rows = new ArrayList<>();
        reader.open(context);
    }

    @Override
    public void deserialize(byte[] message, Collector<RowData> out) throws IOException {
        if (message == null) {
            return;
        }
        rows.clear();
        try {
            reader.read(message, rows::add);
        } catch (Exception e) {
            failed.inc();
            String reason = reason(e);
            if (onError == MessageFormatFactory.OnError.FAIL) {
                throw new IOException("A message cannot be read: " + reason + ". It begins: " + beginning(message), e);
            }
            if (onError == MessageFormatFactory.OnError.EMIT) {
                out.collect(row(null, StringData.fromString(reason), message));
            }
            return;
        }
        parsed.inc();
        for (GenericRowData row : rows) {
            out.collect(metadata.length == 0 ? row : row(row, null, null));
        }
    }

    private RowData row(GenericRowData fields, StringData error, byte[] raw) {
        GenericRowData row = new GenericRowData(columns + metadata.length);
        for (int i = 0; fields != null && i < columns; i++) {
            row.setField(i, fields.getField(i));
        }
        for (int i = 0; i < metadata.length; i++) {
            row.setField(columns + i, metadata[i].equals(ERROR) ? error : raw);
        }
        return row;
    }

    /** The deepest cause says what is wrong; those around it repeat the message. */
    private static String reason(Throwable thrown) {
        Throwable cause = thrown;
        while (cause.getCause() != null && cause.getCause() != cause) {
            cause = cause.getCause();
        }
        String text = cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage();
        // Jackson adds where its input came from, on a line of its own.
        return text.lines().findFirst().orElse(text).strip();
    }

    private static String beginning(byte[] message) {
        return new String(message, 0, Math.min(message.length, SHOWN_BYTES), StandardCharsets.UTF_8);
    }

    @Override
    public RowData deserialize(byte[] message) {
        throw new UnsupportedOperationException("a message may be several rows");
    }

    @Override
    public boolean isEndOfStream(RowData row) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return type;
    }
}
