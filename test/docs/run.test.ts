import { playOthers } from './play-pages.ts'

playOthers()
