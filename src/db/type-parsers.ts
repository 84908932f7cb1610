import pg from 'pg'
import textParsers from 'pg-types/lib/textParsers.js'
import { parseTimestamp } from './timestamp.ts'

const oids = pg.types.builtins

/** OIDs of types that `pg.types.builtins` leaves out (PostgreSQL, pg_type.dat). */
const name = 19
const int4Array = 1007
const textArray = 1009
const int8Array = 1016
const timestamptzArray = 1185
const uuidArray = 2951
const jsonbArray = 3807
const xid8 = 5069

/** The types that our own statements and those of pg-boss read. */
const ownTypes: readonly number[] = [
  ...[oids.BOOL, oids.BYTEA, oids.INT2, oids.INT4, oids.INT8, oids.FLOAT8, oids.OID, oids.TIMESTAMPTZ],
  ...[oids.TEXT, oids.VARCHAR, oids.UUID, oids.JSON, oids.JSONB],
  ...[name, int4Array, textArray, int8Array, timestamptzArray, uuidArray, jsonbArray, xid8],
]

type Parser = (value: string) => unknown

const defaults = new Map<number, Parser>()
textParsers.init((oid, parse) => void defaults.set(oid, parse))
const ownParsers = new Map(ownTypes.map((oid) => [oid, defaults.get(oid) ?? String]))
ownParsers.set(oids.TIMESTAMPTZ, parseTimestamp)

/**
 * The type parsers of our connections. The types that our own statements read are always parsed as node-postgres does
 * by default, because an app may change the parsers of the process with `pg.types.setTypeParser`. For all other types,
 * the parsers of the process apply.
 */
export const typeParsers: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    (format === 'binary' ? undefined : ownParsers.get(oid)) ??
    pg.types.getTypeParser(oid, format as 'text')) as pg.CustomTypesConfig['getTypeParser'],
}
