import { join } from 'node:path'
import { build } from 'esbuild'

const directory = join(import.meta.dirname, '../../src/client')

/** Bundles a module that may import the client, as an app does for browsers. */
export async function bundle(code: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: code.replaceAll('accepted/client', './index.ts'), resolveDir: directory, loader: 'ts' },
    ...{ bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, logLevel: 'error' },
  })
  return outputFiles[0]?.text ?? ''
}
