"""The dashboard, ``streamlit run dashboard/app.py``: pages that show what ``bench`` reads and draws."""
