package hlink.formats;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.utils.DataTypeUtils;

/**
 * A format of messages that counts them, and that can go on where one cannot be read.
 *
 * <p>Metadata of the format: {@code error} and {@code raw}, null unless {@code on-error} is {@code emit}: a message that
 * cannot be read is then a row whose columns are all null but these.
 */
abstract class MessageFormatFactory implements DeserializationFormatFactory {
    private static final ConfigOption<OnError> ON_ERROR =
            ConfigOptions.key("on-error").enumType(OnError.class).defaultValue(OnError.FAIL);
    private static final Map<String, DataType> METADATA = new LinkedHashMap<>();

    static {
        METADATA.put(MessageDeserializer.ERROR, DataTypes.STRING().nullable());
        METADATA.put(MessageDeserializer.RAW, DataTypes.BYTES().nullable());
    }

    /** What becomes of a message that cannot be read. */
    enum OnError {
        FAIL,
        SKIP,
        EMIT
    }

    /** The reader of messages with columns of that type. */
    abstract MessageReader reader(ReadableConfig options, RowType columns);

    /** The options of the format beside {@code on-error}. */
    abstract Set<ConfigOption<?>> ownOptions();

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        FactoryUtil.validateFactoryOptions(this, options);
        return new DecodingFormat<>() {
            private List<String> metadata = List.of();

            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(
                    DynamicTableSource.Context context, DataType columns) {
                List<DataTypes.Field> more = metadata.stream().map(key -> DataTypes.FIELD(key, METADATA.get(key))).toList();
                return new MessageDeserializer(
                        reader(options, (RowType) columns.getLogicalType()),
                        options.get(ON_ERROR),
                        columns.getChildren().size(),
                        metadata.toArray(new String[0]),
                        context.createTypeInformation(DataTypeUtils.appendRowFields(columns, more)));
            }

            @Override
            public Map<String, DataType> listReadableMetadata() {
                return METADATA;
            }

            @Override
            public void applyReadableMetadata(List<String> keys) {
                metadata = keys;
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return ownOptions();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(ON_ERROR);
    }
}
