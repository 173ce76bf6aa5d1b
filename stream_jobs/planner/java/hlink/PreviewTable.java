package hlink;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.EncodingFormat;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.factories.SerializationFormatFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.types.RowKind;

/** The connector {@code hlink-preview}: a sink whose rows stay in this process, as {@link PreviewRows}. */
public final class PreviewTable implements DynamicTableSink {
    private final String name;
    private final EncodingFormat<SerializationSchema<RowData>> format;
    private final DataType type;
    private final int[] key;

    private PreviewTable(
            String name, EncodingFormat<SerializationSchema<RowData>> format, DataType type, int[] key) {
        this.name = name;
        this.format = format;
        this.type = type;
        this.key = key;
    }

    @Override
    public ChangelogMode getChangelogMode(ChangelogMode requested) {
        return ChangelogMode.all();
    }

    @Override
    public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
        return SinkV2Provider.of(new RowSink(name, format.createRuntimeEncoder(context, type), getters()), 1);
    }

    @Override
    public DynamicTableSink copy() {
        return new PreviewTable(name, format, type, key);
    }

    @Override
    public String asSummaryString() {
        return Factory.NAME;
    }

    private List<RowData.FieldGetter> getters() {
        List<RowData.FieldGetter> getters = new ArrayList<>();
        for (int index : key) {
            getters.add(RowData.createFieldGetter(type.getLogicalType().getChildren().get(index), index));
        }
        return getters;
    }

    private static final class RowSink implements Sink<RowData> {
        private final String name;
        private final SerializationSchema<RowData> schema;
        private final List<RowData.FieldGetter> key;

        RowSink(String name, SerializationSchema<RowData> schema, List<RowData.FieldGetter> key) {
            this.name = name;
            this.schema = schema;
            this.key = key;
        }

        @Override
        public SinkWriter<RowData> createWriter(WriterInitContext context) throws IOException {
            try {
                schema.open(context.asSerializationSchemaInitializationContext());
            } catch (Exception e) {
                throw new IOException(e);
            }
            return new RowWriter(PreviewRows.of(context.getJobInfo().getJobId()), this);
        }
    }

    private static final class RowWriter implements SinkWriter<RowData> {
        private final PreviewRows rows;
        private final RowSink sink;

        RowWriter(PreviewRows rows, RowSink sink) {
            this.rows = rows;
            this.sink = sink;
        }

        @Override
        public void write(RowData row, Context context) {
            RowKind kind = row.getRowKind();
            List<String> key = new ArrayList<>();
            for (RowData.FieldGetter getter : sink.key) {
                key.add(String.valueOf(getter.getFieldOrNull(row)));
            }
            row.setRowKind(RowKind.INSERT);
            byte[] json = sink.schema.serialize(row);
            row.setRowKind(kind);
            rows.take(sink.name, kind, key, json);
        }

        @Override
        public void flush(boolean endOfInput) {}

        @Override
        public void close() {}
    }

    /** Found by Flink through {@code META-INF/services}. */
    public static final class Factory implements DynamicTableSinkFactory {
        static final String NAME = "hlink-preview";

        @Override
        public String factoryIdentifier() {
            return NAME;
        }

        @Override
        public Set<ConfigOption<?>> requiredOptions() {
            return Set.of(FactoryUtil.FORMAT);
        }

        @Override
        public Set<ConfigOption<?>> optionalOptions() {
            return Set.of();
        }

        @Override
        public DynamicTableSink createDynamicTableSink(Context context) {
            FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
            EncodingFormat<SerializationSchema<RowData>> format =
                    helper.discoverEncodingFormat(SerializationFormatFactory.class, FactoryUtil.FORMAT);
            helper.validate();
            return new PreviewTable(
                    context.getObjectIdentifier().getObjectName(),
                    format,
                    context.getPhysicalRowDataType(),
                    context.getPrimaryKeyIndexes());
        }
    }
}
