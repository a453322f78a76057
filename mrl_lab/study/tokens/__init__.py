"""What visual tokens buy: M3 and what it is compared with, trained from one start and asked the same questions."""
