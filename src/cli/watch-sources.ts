import { type FSWatcher, readdirSync, watch } from 'node:fs'
import { join, relative, sep } from 'node:path'

/** An editor may write a file in several steps, and several files at once. */
const debounceMs = 100

/** The files whose change may change what an app does. */
const isSource = (name: string) => /\.(?:[cm]?[jt]sx?|json|sql)$/.test(name)

/** A module is loaded only by another file, which then changes too. Programs may look for files of other kinds. */
const isModule = (name: string) => /\.(?:[cm]?[jt]sx?)$/.test(name)

/** Directories that are not watched: dependencies, and what tools write, such as .git and .data. */
const isIgnored = (name: string) => name === 'node_modules' || name.startsWith('.')

/** Watches the source files below a directory. */
export interface SourceWatcher {
  /**
   * Resolves to the files that have changed since the last call, relative to the directory. A new module alone does not
   * count: the app has not loaded it.
   */
  next(): Promise<string[]>
  /** Until {@link next} resolves, new modules count too: the app may have failed because they were missing. */
  includeNew(): void
  close(): void
}

/** Watches each directory by itself: a recursive watch would include node_modules. */
export function watchSources(root: string, { ignored = [] }: { ignored?: readonly string[] } = {}): SourceWatcher {
  const watchers = new Map<string, FSWatcher>()
  /** The files that the app may have loaded. */
  const known = new Set<string>()
  const changed = new Set<string>()
  const newModules = new Set<string>()
  let includesNew = false
  let timer: NodeJS.Timeout | undefined
  let settle: () => void
  let settled: Promise<void>
  const expectChange = () => {
    settled = new Promise((resolve) => {
      settle = resolve
    })
  }

  const settleSoon = () => {
    clearTimeout(timer)
    timer = setTimeout(settle, debounceMs)
  }
  const report = (path: string) => {
    const file = relative(root, path)
    if (!includesNew && !known.has(file) && isModule(file)) return void newModules.add(file)
    changed.add(file)
    settleSoon()
  }
  const add = (directory: string, isNew: boolean) => {
    if (watchers.has(directory) || ignored.includes(directory)) return
    // Watches before it reads, so that no file is missed that is created between both.
    const watcher = watch(directory, (_event, name) => {
      if (name === null) return
      const path = join(directory, name)
      if (isSource(name)) report(path)
      else if (!isIgnored(name)) addIfDirectory(path)
    })
    watcher.on('error', () => remove(directory))
    watchers.set(directory, watcher)
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory() && !isIgnored(entry.name)) add(join(directory, entry.name), isNew)
      else if (isNew && isSource(entry.name)) report(join(directory, entry.name))
      else if (isSource(entry.name)) known.add(relative(root, join(directory, entry.name)))
    }
  }
  const addIfDirectory = (path: string) => {
    try {
      add(path, true)
    } catch {
      // It is no directory, or it is gone.
      remove(path)
    }
  }
  const remove = (directory: string) => {
    for (const [path, watcher] of watchers) {
      if (path !== directory && !path.startsWith(directory + sep)) continue
      watcher.close()
      watchers.delete(path)
    }
  }
  expectChange()
  add(root, false)
  return {
    async next() {
      await settled
      expectChange()
      const files = [...changed].sort()
      for (const file of [...changed, ...newModules]) known.add(file)
      changed.clear()
      newModules.clear()
      includesNew = false
      return files
    },
    includeNew() {
      includesNew = true
      for (const file of newModules) changed.add(file)
      newModules.clear()
      if (changed.size > 0) settleSoon()
    },
    close() {
      clearTimeout(timer)
      remove(root)
    },
  }
}
