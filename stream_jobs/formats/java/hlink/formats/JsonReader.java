package hlink.formats;

import java.util.function.Consumer;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.Collector;

/** Flink's own JSON, with the times as text; then the times of that. */
final class JsonReader implements MessageReader {
    private static final long serialVersionUID = 1L;

    private final JsonParserRowDataDeserializationSchema json;
    private final TimeFields times;

    JsonReader(RowType columns, String spellings) {
        JsonNode words;
        try {
            words = new ObjectMapper().readTree(spellings);
        } catch (JsonProcessingException e) {
            throw new IllegalArgumentException("the option times is not JSON", e);
        }
        RowType asText = (RowType) TimeFields.asText(columns, words);
        json =
                new JsonParserRowDataDeserializationSchema(
                        asText, InternalTypeInfo.of(asText), false, false, TimestampFormat.SQL);
        times = TimeFields.of(columns, words, "");
    }

    @Override
    public void open(DeserializationSchema.InitializationContext context) throws Exception {
        json.open(context);
    }

    @Override
    public void read(byte[] message, Consumer<GenericRowData> rows) throws Exception {
        json.deserialize(
                message,
                new Collector<>() {
                    @Override
                    public void collect(RowData row) {
                        rows.accept((GenericRowData) (times == null ? row : times.read(row)));
                    }

                    @Override
                    public void close() {}
                });
    }
}
