import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { EntriesRefused } from '../accept/accept.ts'
import { type AcceptedBatch, assertBatchBacklog, createBatchCommitter } from '../accept/accept-batch.ts'
import { fingerprintOf } from '../accept/fingerprint.ts'
import { parseIdempotencyKey } from '../accept/idempotency-key.ts'
import { collectOperations } from '../collect-operations.ts'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { ProblemError } from '../errors.ts'
import { maxBatchBytes } from '../http/batches/limit.ts'
import { type ReceivedBatch, readBatch } from '../http/batches/read.ts'
import { refusalOf } from '../http/batches/refusal.ts'
import { splitArray } from '../http/batches/split.ts'
import { withBuiltIn } from '../jobs/built-in.ts'
import { createSeals, keyRingFor, type Seals } from '../jobs/seals.ts'
import { loadConfig } from '../load-config.ts'
import { assertMigrated } from '../migrate/migrate.ts'
import type { Operation } from '../operation.ts'
import { formatCount } from '../primitives/format-count.ts'
import { createKeyedMutex } from '../primitives/keyed-mutex.ts'
import { problemOfPrincipal } from '../primitives/principal.ts'
import { defineOperations } from '../queue/define-operations.ts'
import { readSettings } from '../settings.ts'
import type { OutputOptions } from './output-options.ts'
import { withDatabase } from './with-database.ts'

interface SubmitBatchOptions extends OutputOptions {
  config?: string
  principal?: string
  key?: string
}

/** Runs `accepted batches submit`: accepts a batch as `POST /batches` does, and prints its id. */
export async function submitBatchCommand(file: string, options: SubmitBatchOptions): Promise<void> {
  const { principal = 'anonymous' } = options
  const problem = problemOfPrincipal(principal)
  if (problem) throw new ConfigError(`--principal ${problem}.`)
  const operations = collectOperations((await loadConfig(options.config)).operations)
  const seals = createSeals(readSettings().ENCRYPTION_KEYS, operations.values())
  const received = await receive(file)
  const { id, total } = await explainProblems(file, async () => {
    const batch = await readBatch(received, { principal }, operations, keyOf(options, seals))
    const id = await withDatabase((_db, database) => submit(database, { operations, seals }, batch))
    return { id, total: batch.entries.length }
  })
  if (options.json) return console.log(JSON.stringify({ id }))
  console.log(id)
  if (process.stdout.isTTY) console.log(`${formatCount(total, 'job')}. To watch: accepted batches watch ${id}`)
}

async function receive(file: string): Promise<ReceivedBatch> {
  const text = file === '-' ? await buffer(process.stdin) : await read(file)
  if (text.length > maxBatchBytes) {
    throw new ConfigError(
      `The batch has ${text.length} bytes; split it into batches of at most ${maxBatchBytes} bytes.`,
    )
  }
  const { elements } = await splitArray(text, 'items', 0, () => undefined)
  return { text, isNdjson: elements === undefined }
}

async function read(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`
    throw new ConfigError(`The file ${file} ${reason}. Pass a file of JSON or NDJSON, or - for the standard input.`, {
      cause,
    })
  }
}

const keyOf =
  ({ key }: SubmitBatchOptions, seals: Seals) =>
  async (used: readonly Operation[], makeDigest: () => Promise<unknown>): Promise<AcceptedBatch['idempotency']> => {
    const parsed = parseIdempotencyKey(key === undefined ? [] : [key])
    if (parsed === undefined) return undefined
    const parts = { method: 'CLI', path: 'batches submit', query: '', mediaType: '', body: await makeDigest() }
    return { key: parsed, ...fingerprintOf(parts, keyRingFor(used, seals)) }
  }

async function submit(
  database: Database,
  { operations, seals }: { operations: ReadonlyMap<string, Operation>; seals: Seals },
  batch: AcceptedBatch,
): Promise<string> {
  await assertMigrated(database)
  await defineOperations(database, withBuiltIn(operations).values())
  try {
    await assertBatchBacklog(database, batch)
    const outcome = await createBatchCommitter({ database, seals, mutex: createKeyedMutex() }).submit(batch)
    if (outcome.kind === 'key-reused') throw new ProblemError('idempotency-key-reused')
    return outcome.kind === 'accepted' ? outcome.job.id : outcome.jobId
  } catch (error) {
    if (!(error instanceof EntriesRefused)) throw error
    const { refusal, details } = refusalOf(batch, error)
    throw new ProblemError('bad-request', refusal.message, { details, cause: error })
  }
}

/** Maximum number of violations that are printed. */
const maxPrinted = 20

/** Adds the violations to the message of a problem. */
async function explainProblems<Result>(file: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ProblemError) || error.status >= 500) throw error
    const details = error.details as readonly { pointer: string; message?: string }[]
    const lines = details.slice(0, maxPrinted).map(({ pointer, message }) => `  ${pointer || 'The batch'} ${message}`)
    if (details.length > maxPrinted) lines.push('  …')
    const source = file === '-' ? 'The standard input' : file
    const text = [`${source}: ${error.message}. Nothing was enqueued.`, ...lines].join('\n')
    throw new ConfigError(text, { cause: error })
  }
}
