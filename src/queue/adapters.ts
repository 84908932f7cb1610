import '../primitives/require-node.ts'
import * as boss from 'pg-boss'
import type { AdaptedTransaction } from '../db/transaction-on.ts'

// The module `accepted/adapters`. The types are our own, because those of pg-boss are not published with ours.

/** A transaction of `drizzle-orm`, of a driver for Postgres. */
export interface DrizzleTransaction {
  // biome-ignore lint/suspicious/noExplicitAny: the drivers of Drizzle return different results
  execute(query: any): Promise<any>
}

/** The `sql` of `drizzle-orm`. */
export interface DrizzleSql {
  (strings: TemplateStringsArray, ...values: unknown[]): unknown
  param(value: unknown): unknown
}

/** A transaction of `knex` with the client `pg`. */
export interface KnexTransaction {
  // biome-ignore lint/suspicious/noExplicitAny: as Knex types it
  raw(sql: string, bindings: any): PromiseLike<any>
}

/** The client that `prisma.$transaction(async (tx) => …)` passes on. */
export interface PrismaTransaction {
  $queryRawUnsafe<Result>(query: string, ...values: unknown[]): PromiseLike<Result>
}

/** Makes a transaction of Drizzle usable for `enqueue`. */
export const fromDrizzle = (tx: DrizzleTransaction, sql: DrizzleSql): AdaptedTransaction => boss.fromDrizzle(tx, sql)

/** Makes a transaction of Knex usable for `enqueue`. */
export const fromKnex = (trx: KnexTransaction): AdaptedTransaction => boss.fromKnex(trx as never)

/** Makes an interactive transaction of Prisma usable for `enqueue`. */
export const fromPrisma = (tx: PrismaTransaction): AdaptedTransaction => boss.fromPrisma(tx as never)
