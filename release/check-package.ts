/** Checks what `npm pack` would publish, after a build: its files, its size, its types and its entry points. */
import { execFileSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { isAbsolute, join, posix, relative } from 'node:path'
import { linksOf, parsePage } from '../test/docs/markdown.ts'
import { type EntryPoint, entryPointsOf, readDeclarations, readManifest } from './declarations.ts'
import { root } from './production-packages.ts'

/** A larger package is probably a mistake. Raise the limit if every file is needed. */
const maxUnpackedBytes = 3_500_000

/** Not needed by users of the package. Images are for the website. */
const unwanted = /\.(map|tsbuildinfo|png|svg|webp|tgz)$|^(test|bench)\/|(^|\/)(node_modules|\.\w[^/]*)\//

interface Manifest {
  name: string
  bin: Readonly<Record<string, string>>
  exports: Readonly<Record<string, string | { types: string; default: string }>>
  dependencies: Readonly<Record<string, string>>
  peerDependencies: Readonly<Record<string, string>>
}

/** What `npm pack --json` prints about a package. */
interface Pack {
  size: number
  unpackedSize: number
  files: { path: string }[]
}

const listFiles = (): Pack => {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  })
  const printed = JSON.parse(output)
  // npm 11 prints a list, and later versions print the packages by name.
  return Object.values<Pack>(printed)[0] as Pack
}

/** Returns a line for each file that should not be in the package, and for each that is missing. */
export function findFileProblems({ bin, exports }: Manifest, files: readonly string[]): string[] {
  const needed = [
    ...Object.values(bin),
    ...Object.values(exports).flatMap((target) =>
      typeof target === 'string' ? target : [target.types, target.default],
    ),
  ].map((path) => path.replace(/^\.\//, ''))
  return [
    ...files.filter((file) => unwanted.test(file)).map((file) => `${file} is not needed: leave it out of "files"`),
    ...needed.filter((file) => !files.includes(file)).map((file) => `${file} is missing: package.json refers to it`),
  ]
}

/** Returns a line for each import of the declaration files that users of the package could not resolve. */
export function findTypeProblems(
  { dependencies, peerDependencies }: Manifest,
  entryPoints: readonly EntryPoint[],
  files: readonly string[],
): string[] {
  const modules = readDeclarations(entryPoints.map(({ file }) => file))
  return [...modules.values()].flatMap(({ file, imports }) => {
    const importer = relative(root, file)
    return [...imports.values()].flatMap((target) => {
      if (isAbsolute(target)) {
        const path = relative(root, target)
        return files.includes(path) ? [] : [`${importer} imports ${path}, which is not in the package`]
      }
      const [name = ''] = /^(?:@[^/]+\/)?[^/]+/.exec(target) ?? []
      const isInstalled = name.startsWith('node:') || name in dependencies || name in peerDependencies
      return isInstalled ? [] : [`${importer} imports types of ${name}, which is no dependency`]
    })
  })
}

/**
 * Returns a line for each relative link of a page in the package that leads to no file or directory of it. The README is
 * also the front page of the repository, and registries resolve its links there. Readers see the text of an image.
 *
 * @param read returns the text of a file
 */
export function findLinkProblems(files: readonly string[], read: (file: string) => string): string[] {
  const known = new Set(files.flatMap((file) => [file, posix.dirname(file)]))
  return files
    .filter((file) => file.endsWith('.md') && file !== 'README.md')
    .flatMap((name) => linksOf(parsePage(name, read(name))))
    .filter(({ file }) => !known.has(file) && !file.endsWith('.png'))
    .map(({ page, target }) => `${page} links to ${target}, which is not in the package: name the file without a link`)
}

/** Imports and requires each entry point as users do. Returns what Node.js prints if one fails. */
function loadEntryPoints(specifiers: readonly string[]): string[] {
  const code = `
    const require = process.getBuiltinModule('node:module').createRequire(process.cwd() + '/')
    for (const specifier of ${JSON.stringify(specifiers)}) {
      const imported = await import(specifier)
      if (require(specifier) !== imported) throw new Error('require(' + specifier + ') returns another module')
    }`
  try {
    execFileSync(process.execPath, ['--input-type=module', '--eval', code], { cwd: root, stdio: 'pipe' })
    return []
  } catch (error) {
    return [`${(error as { stderr: Buffer }).stderr}`]
  }
}

const withSourceMaps = () =>
  globSync('dist/**/*.js', { cwd: root })
    .filter((file) => readFileSync(join(root, file), 'utf8').includes('\n//# sourceMappingURL='))
    .map((file) => `${file} refers to a source map, and the package contains none`)

function check(): boolean {
  const manifest = readManifest<Manifest>()
  const entryPoints = entryPointsOf(manifest)
  const { size, unpackedSize, files } = listFiles()
  const paths = files.map(({ path }) => path)
  const problems = [
    ...findFileProblems(manifest, paths),
    ...findTypeProblems(manifest, entryPoints, paths),
    ...findLinkProblems(paths, (file) => readFileSync(join(root, file), 'utf8')),
    ...withSourceMaps(),
    ...loadEntryPoints(entryPoints.map(({ specifier }) => specifier)),
    ...(unpackedSize > maxUnpackedBytes ? [`The package is too large: more than ${maxUnpackedBytes} bytes`] : []),
  ]
  const kilobytes = (bytes: number) => `${Math.round(bytes / 1000)} kB`
  console.log(`Package: ${paths.length} files, ${kilobytes(size)} packed, ${kilobytes(unpackedSize)} unpacked`)
  for (const problem of problems) console.error(`Package: ${problem}`)
  return problems.length === 0
}

if (import.meta.main) process.exitCode = check() ? 0 : 1
