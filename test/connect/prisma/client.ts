/**
 * A Prisma client for the table `effect`. `prisma generate` needs the package `prisma`, which takes 300 MB; these are the
 * parts of what it generates from schema.prisma that exist at run time. model.json has the rest. To write it again:
 * `PRISMA_SCHEMA_ENGINE_BINARY=/bin/true npx prisma generate --schema test/connect/prisma/schema.prisma`, and copy it
 * from `internal/class.ts`.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PrismaPg } from '@prisma/adapter-pg'
import { type GetPrismaClientConfig, getPrismaClient } from '@prisma/client/runtime/client'

/** A transaction of the client. */
export interface PrismaTransaction {
  effect: { create(args: { data: { jobId: string; word: string } }): Promise<unknown> }
  $queryRawUnsafe<Result>(query: string, ...values: unknown[]): Promise<Result>
}

export interface EffectClient extends PrismaTransaction {
  $transaction<Result>(work: (tx: PrismaTransaction) => Promise<Result>): Promise<Result>
  $disconnect(): Promise<void>
}

const compiler = '@prisma/client/runtime/query_compiler_fast_bg.postgresql'

const readText = (name: string) => readFile(join(import.meta.dirname, name), 'utf8')

/** Opens a client at a database. */
export async function openPrisma(connectionString: string): Promise<EffectClient> {
  const config = {
    ...JSON.parse(await readText('model.json')),
    previewFeatures: [],
    activeProvider: 'postgresql',
    inlineSchema: await readText('schema.prisma'),
    compilerWasm: {
      getRuntime: () => import(`${compiler}.mjs`),
      getQueryCompilerWasmModule: async () => {
        const { wasm } = await import(`${compiler}.wasm-base64.mjs`)
        // TypeScript knows WebAssembly only with the types of browsers.
        const { WebAssembly } = globalThis as unknown as { WebAssembly: { Module: new (code: Buffer) => unknown } }
        return new WebAssembly.Module(Buffer.from(wasm, 'base64'))
      },
      importName: './query_compiler_fast_bg.js',
    },
  }
  const Client = getPrismaClient(config as GetPrismaClientConfig) as unknown as new (options: object) => EffectClient
  const transactionOptions = { maxWait: 45_000, timeout: 45_000 }
  return new Client({ adapter: new PrismaPg({ connectionString }), transactionOptions })
}
