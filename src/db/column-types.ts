import type { ColumnType } from 'kysely'

/** A time that is never null. An insert may leave it out. */
export type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>

/** A time that is never null. An insert must set it. */
export type RequiredTimestamp = ColumnType<Date, Date | string, Date | string>

/** A time that may be null. */
export type OptionalTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>
