/**
 * Bundles dependencies that consist of many files. The tests start hundreds of processes. A process needs about half
 * the CPU time to start if it loads one file instead of a thousand. The code is the same.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = join(import.meta.dirname, '../..')

/** Bundled together, so that the entry points of a package share its code. */
const entryPoints = [
  ...['kysely', 'pg-boss', 'uuid'],
  ...['typebox', 'typebox/compile', 'typebox/error', 'typebox/format', 'typebox/guard', 'typebox/schema'],
  ...['typebox/system', 'typebox/type', 'typebox/value'],
]

/** The product and pg-boss must get the same instance of it. */
const external = ['pg']

const outputName = (entryPoint: string) => entryPoint.replaceAll('/', '-')

/**
 * Makes the bundles, unless an earlier run has made them.
 *
 * @returns the URL of a module that makes its process load the bundles
 */
export async function bundleDependencies(parentDirectory: string): Promise<string> {
  const inputs = [join(root, 'package-lock.json'), import.meta.filename].map((file) => readFile(file))
  // The bundles contain paths, so a copy of the checkout needs its own.
  const hash = createHash('sha256')
    .update(Buffer.concat([Buffer.from(root), ...(await Promise.all(inputs))]))
    .digest('hex')
  const directory = join(parentDirectory, `bundles-${hash.slice(0, 12)}`)
  const hook = join(directory, 'hook.mjs')
  if (!existsSync(hook)) {
    // Loaded only when needed, which is once after each change of the dependencies.
    const { build } = await import('esbuild')
    const unfinished = `${directory}-${process.pid}`
    await build({
      ...{ absWorkingDir: root, bundle: true, splitting: true, format: 'esm', platform: 'node', external },
      entryPoints: entryPoints.map((entryPoint) => ({ in: entryPoint, out: outputName(entryPoint) })),
      ...{ outdir: unfinished, outExtension: { '.js': '.mjs' } },
      // Dependencies of pg-boss are CommonJS.
      banner: { js: "import { createRequire as _of } from 'node:module'; const require = _of(import.meta.url)" },
    })
    await writeFile(join(unfinished, 'hook.mjs'), hookModule(directory))
    // Another run may have made the same bundles in the meantime.
    await rename(unfinished, directory).catch(() => rm(unfinished, { recursive: true }))
  }
  return pathToFileURL(hook).href
}

/** Replaces resolved URLs. A hook that does not load modules leaves the compile cache in use. */
function hookModule(directory: string): string {
  const urls = entryPoints.map((entryPoint) => [
    import.meta.resolve(entryPoint),
    pathToFileURL(join(directory, `${outputName(entryPoint)}.mjs`)).href,
  ])
  return `import module from 'node:module'

const bundles = new Map(${JSON.stringify(urls)})
// The Node.js of npm may be an older one without hooks.
module.registerHooks?.({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context)
    const url = bundles.get(resolved.url)
    return url ? { ...resolved, url } : resolved
  },
})
`
}
